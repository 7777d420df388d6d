"""PyTorch source for ONNX's operators, a file per topic."""
