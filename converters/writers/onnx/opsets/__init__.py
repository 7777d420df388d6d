"""Operator sets of ONNX: the graph in an older or a newer one than its own, by one rule per operator and version."""
