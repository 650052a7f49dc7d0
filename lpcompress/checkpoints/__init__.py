"""Reading and writing checkpoints, and what transformers needs to rebuild compressed layers."""
