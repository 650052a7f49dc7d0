"""Read and write checkpoints, and let transformers rebuild compressed layers."""
