"""Types that onnxruntime's CPU kernels take, where they are fewer than ONNX's: other types are computed in one of these, and cast back.

MXNet computes in any type. Source: onnxruntime docs/OperatorKernels.md, releases 1.16 to 1.24 (what all of them have).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx.defs

FLOATS = "float32 float64"
WHOLE = f"{FLOATS} int32 int64"

KERNELS: Mapping[str, frozenset[str]] = {
    op_type: frozenset(kinds.split())
    for ops, kinds in {
        "Add Sub Mul Div Pow ReduceSum CumSum MatMul Einsum Greater Less GreaterOrEqual LessOrEqual TopK": WHOLE,
        "ReduceMean": f"{FLOATS} int32",
        "ReduceProd": "float32 int32 int64",
        "Max Min": f"{WHOLE} uint32 uint64",
        "ReduceMax ReduceMin": f"{WHOLE} int8 uint8",
        "Clip": f"{WHOLE} int8 uint8",
        "Neg": f"{WHOLE} int8",
        "Equal": f"{WHOLE} bool",
        "ArgMax ArgMin": f"{FLOATS} int8 int32 uint8",
        "Where": f"{WHOLE} uint8",
        "Floor Ceil Round Sqrt Exp Log Tanh Sigmoid Reciprocal Softmax LogSoftmax Sin Gemm Relu IsNaN IsInf": FLOATS,
        "Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Elu Selu HardSigmoid Softsign Softplus Det LpNormalization": "float32",
        "Trilu": f"{FLOATS} int64 bool",
        "Range": f"{WHOLE} int16",
        "Mod Sign Abs": f"{WHOLE} int8 uint8 int16 uint16 uint32 uint64",
        "Tile Pad": f"{WHOLE} int8 uint8 uint32 uint64 bool",
    }.items()
    for op_type in ops.split()
}
"""By operator; one that isn't here takes what ONNX allows."""


def computed_in(op_type: str, dtype: np.dtype) -> np.dtype:
    """The type in which an operator is computed for inputs of a type; that type itself where there is a kernel for it."""
    kinds = KERNELS.get(op_type)
    if kinds is None or dtype.name in kinds or dtype.name in ("float16", "bfloat16"):  # of which onnxruntime makes float32 itself
        return dtype
    narrow = dtype.kind in "iu" and (dtype.itemsize < 4 or dtype == np.int32)
    order = ("int32", "int64") if narrow or dtype.kind == "b" else ("int64", "float64") if dtype.kind in "iu" else ()
    return np.dtype(next((kind for kind in (*order, "float64", "float32") if kind in kinds), dtype.name))


@cache
def typed_alike(op_type: str, opset: int) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """The positions of inputs and outputs that have the type of the first input that has one, and whether the last input goes on."""
    schema = onnx.defs.get_schema(op_type, opset, "")
    of = 1 if op_type == "Where" else 0
    letter = schema.inputs[of].type_str
    inputs = tuple(i for i, given in enumerate(schema.inputs) if given.type_str == letter)
    variadic = bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return inputs, variadic, tuple(i for i, made in enumerate(schema.outputs) if made.type_str == letter)
