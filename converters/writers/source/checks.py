"""What a node must be to be written: attributes of its operator, element types that PyTorch computes with, constants of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.defs
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import printable
from converters.writers.source.dtypes import HELD, STORED_DTYPES, UnwritableError, array_of, torch_dtype
from converters.writers.source.node import Facts

STORED_UNSIGNED = frozenset({ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64})
"""Types that PyTorch stores and moves, and computes nothing with."""


def check_attributes(node: ir.Node, opset: int) -> None:
    """Raises UnwritableError for attributes that the operator doesn't have, or not of that type: they would be written as they are."""
    try:
        known = onnx.defs.get_schema(node.op_type, opset).attributes
    except onnx.defs.SchemaError:
        return
    for name, attribute in node.attributes.items():
        if name not in known:
            raise UnwritableError(f"it has no attribute {printable(name)!r} in opset {opset}")
        kind: Any = known[name].type  # an enumeration, of pybind's kind or of Python's
        if not attribute.is_ref() and int(attribute.type) != int(getattr(kind, "value", kind)):
            raise UnwritableError(f"attribute {printable(name)!r} is of the type {attribute.type.name}")


def check_types(node: ir.Node, facts: Facts) -> set[ir.Value]:
    """The inputs of types that PyTorch only stores. Raises UnwritableError where nothing can be computed of the node's types."""
    stored = set()
    for value in [*node.inputs, *node.outputs]:
        if value is None or value.type is None:
            continue
        if facts.sequences and isinstance(value.type, ir.SequenceType | ir.OptionalType):
            continue
        if not isinstance(value.type, ir.TensorType):
            raise UnwritableError("takes or gives a sequence, an optional or a sparse value, which it can't be written of")
        if value.dtype in (None, ir.DataType.UNDEFINED) or (value.dtype in STORED_DTYPES and facts.float8):
            continue
        torch_dtype(value.dtype)
        if value.dtype in HELD and facts.unsigned != "moves":
            raise UnwritableError(f"PyTorch doesn't compute with elements of type {value.dtype.name}")
        if value.dtype in STORED_UNSIGNED and facts.unsigned != "moves":
            if facts.unsigned not in (("wraps", "orders") if value.dtype == ir.DataType.UINT64 else ("wraps", "fits", "orders")):
                raise UnwritableError(f"PyTorch has no arithmetic for elements of type {value.dtype.name}")
            stored.add(value)
    return {value for value in stored if value in node.inputs}


def constant_value(node: ir.Node) -> NDArray[Any]:
    """The array of a Constant node. Raises UnwritableError for one of strings, or a sparse one."""
    for name, attribute in node.attributes.items():
        if name == "value":
            return array_of(attribute.as_tensor())
        if name in ("value_int", "value_ints"):
            return np.array(attribute.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(attribute.value, np.float32)
    raise UnwritableError("only constants of numbers have PyTorch source")
