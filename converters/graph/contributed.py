"""Types and shapes of com.microsoft's operators, which ONNX's own inference doesn't know: what follows from the inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

DOMAIN = "com.microsoft"

Tensor = tuple[int, list[int] | None]
"""An element type, and sizes, -1 for open ones; None where not even the rank is known."""
Find = Callable[[str], Tensor | None]


def note_types(proto: onnx.ModelProto) -> bool:
    """Adds the types of com.microsoft's operators to a graph, as far as they follow from what is known. Whether there were any."""
    if all(node.domain != DOMAIN for node in proto.graph.node):
        return False
    values = {value.name: value for value in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]}
    tensors = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in proto.graph.initializer}

    def find(name: str) -> Tensor | None:
        if name in tensors:
            return tensors[name]
        value = values.get(name)
        if value is None or not value.type.tensor_type.elem_type:
            return None
        kind = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim] if kind.HasField("shape") else None
        return kind.elem_type, sizes

    found = False
    for node in proto.graph.node:
        for number, (dtype, sizes) in _of(node, find).items():
            name = node.output[number] if number < len(node.output) else ""
            there = values.get(name)
            if not name or (there is not None and there.type.tensor_type.elem_type and there.type.tensor_type.HasField("shape")):
                continue
            if there is None:
                there = values[name] = proto.graph.value_info.add(name=name)
            found = found or sizes is not None or there.type.tensor_type.elem_type != dtype
            there.type.tensor_type.elem_type = dtype
            if sizes is not None and not there.type.tensor_type.HasField("shape"):
                there.type.tensor_type.shape.SetInParent()
                for size in sizes:
                    dim = there.type.tensor_type.shape.dim.add()
                    if size >= 0:
                        dim.dim_value = size
    return found


def _of(node: onnx.NodeProto, find: Find) -> dict[int, Tensor]:
    """By the number of the output."""
    if node.domain != DOMAIN:
        return {}
    inputs = [find(name) if name else None for name in node.input]
    rule = _RULES.get(node.op_type)
    if rule is None or not inputs:
        return {}
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {number: tensor for number, tensor in rule(inputs, attributes).items() if tensor is not None}


_Inputs = list[Tensor | None]
_Attributes = Mapping[str, object]
_Rule = Callable[[_Inputs, _Attributes], dict[int, Tensor | None]]


def _at(inputs: _Inputs, index: int) -> Tensor | None:
    return inputs[index] if index < len(inputs) else None


def _like(*outputs: int) -> _Rule:
    """These outputs are like the first input."""
    return lambda inputs, _: dict.fromkeys(outputs or (0,), _at(inputs, 0))


def _product(left: int, right: int, dtype_at: int) -> _Rule:
    def rule(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
        a, b, kind = _at(inputs, left), _at(inputs, right), _at(inputs, dtype_at)
        if kind is None:
            return {}
        if a is None or b is None or a[1] is None or b[1] is None or min(len(a[1]), len(b[1])) < 2:
            return {0: (kind[0], None)}
        first, second = list(a[1]), list(b[1])
        first[-2:] = first[-2:][::-1] if attributes.get("transA") else first[-2:]
        second[-2:] = second[-2:][::-1] if attributes.get("transB") else second[-2:]
        before = first[:-2] if len(first) >= len(second) else second[:-2]
        if len(first) == len(second) and first[:-2] != second[:-2]:
            before = [-1] * len(before)
        return {0: (kind[0], [*before, first[-2], second[-1]])}

    return rule


def _attention(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    x = _at(inputs, 0)
    return {} if x is None else {0: (x[0], [*x[1][:2], -1] if x[1] is not None else None)}


def _closed(zero_at: int, *, shape_of: int = 0) -> _Rule:
    """Quantised: the type of a zero point, the shape of an input."""

    def rule(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
        zero, x = _at(inputs, zero_at), _at(inputs, shape_of)
        return {0: (onnx.TensorProto.UINT8 if zero is None else zero[0], None if x is None else x[1])}

    return rule


def _broadcast(zero_at: int) -> _Rule:
    def rule(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
        zero, a, b = _at(inputs, zero_at), _at(inputs, 0), _at(inputs, 3)
        kind = onnx.TensorProto.UINT8 if zero is None else zero[0]
        if a is None or b is None or a[1] is None or b[1] is None:
            return {0: (kind, None)}
        longer = max(a[1], b[1], key=len)
        return {0: (kind, longer if a[1] == b[1] else [-1] * len(longer))}

    return rule


def _open_space(rule: _Rule) -> _Rule:
    """As another rule, with sizes of space that aren't known."""

    def opened(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
        made = rule(inputs, attributes)
        return {number: (t[0], t[1] and [*t[1][:2], *[-1] * (len(t[1]) - 2)]) for number, t in made.items() if t is not None}

    return opened


def _convolved(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    x, weight = _at(inputs, 0), _at(inputs, 1)
    if x is None or x[1] is None or weight is None or weight[1] is None:
        return {} if x is None else {0: (x[0], None)}
    return {0: (x[0], [x[1][0], weight[1][0], *[-1] * (len(x[1]) - 2)])}


def _embedded(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    ids, words = _at(inputs, 0), _at(inputs, 2)
    if words is None:
        return {}
    sizes = None if ids is None or ids[1] is None or words[1] is None else [*ids[1], words[1][-1]]
    return {0: (words[0], sizes), 1: (onnx.TensorProto.INT32, None if ids is None or ids[1] is None else ids[1][:1]), 2: (words[0], sizes)}


def _opened(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    x, scale = _at(inputs, 0), _at(inputs, 1)
    return {} if scale is None else {0: (scale[0], None if x is None else x[1])}


def _concat(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    zero, x = _at(inputs, 1), _at(inputs, 2)
    return {} if zero is None else {0: (zero[0], None if x is None or x[1] is None else [-1] * len(x[1]))}


def _gemm(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    scale, zero = _at(inputs, 1), _at(inputs, 8)
    if len(inputs) > 7 and inputs[7] is not None:
        return {0: (onnx.TensorProto.UINT8 if zero is None else zero[0], [-1, -1])}
    return {} if scale is None else {0: (scale[0], [-1, -1])}


def _lstm(inputs: _Inputs, attributes: _Attributes) -> dict[int, Tensor | None]:
    x, recurrence = _at(inputs, 0), _at(inputs, 2)
    if x is None or x[1] is None or recurrence is None or recurrence[1] is None or len(x[1]) != 3 or len(recurrence[1]) != 3:
        return {}
    directions, size = recurrence[1][:2]
    return {0: (x[0], [x[1][0], directions, x[1][1], size]), **dict.fromkeys((1, 2), (x[0], [directions, x[1][1], size]))}


_RULES: dict[str, _Rule] = {
    "DynamicQuantizeLSTM": _lstm,
    **dict.fromkeys(["Gelu", "BiasGelu", "FastGelu", "QuickGelu", "Inverse", "Trilu", "BiasSoftmax"], _like()),
    "SimplifiedLayerNormalization": _like(),
    "SkipLayerNormalization": _like(0, 3),
    "SkipSimplifiedLayerNormalization": _like(0, 3),
    "EmbedLayerNormalization": _embedded,
    "Attention": _attention,
    "MultiHeadAttention": _attention,
    "FusedMatMul": _product(0, 1, 0),
    "TransposeMatMul": _product(0, 1, 0),
    "FusedGemm": _product(0, 1, 0),
    "DynamicQuantizeMatMul": _product(0, 1, 2),
    "MatMulIntegerToFloat": _product(0, 1, 2),
    "FusedConv": _convolved,
    "QLinearAdd": _broadcast(7),
    "QLinearMul": _broadcast(7),
    "QLinearSigmoid": _closed(4),
    "QLinearLeakyRelu": _closed(4),
    "QLinearSoftmax": _closed(4),
    "QLinearGlobalAveragePool": _open_space(_closed(4)),
    "QLinearAveragePool": _open_space(_closed(4)),
    "QLinearConcat": _concat,
    "QGemm": _gemm,
    "QuantizeLinear": _closed(2),
    "DequantizeLinear": _opened,
}
