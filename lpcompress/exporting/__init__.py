"""Export: a compressed model as an ONNX file."""
