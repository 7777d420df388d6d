"""What is in a file: what it is, its layers with shapes, parameters and FLOPs, its tensors, and what can't be converted."""

from converters.inspection.look import inspect
from converters.inspection.result import Inspection, Layer, TensorInfo, Unsupported

__all__ = ["Inspection", "Layer", "TensorInfo", "Unsupported", "inspect"]
