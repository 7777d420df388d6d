"""From a TorchScript program to the graph, by torch.onnx's own walk over its operators."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters.graph.builder import OPSET

if TYPE_CHECKING:
    import onnx_ir
    import torch


def script_program(
    module: Any, names: list[str], arrays: list[torch.Tensor], axes: list[set[int]], *, is_old: bool = False
) -> onnx_ir.Model:
    """TorchScript goes through torch.onnx's own walk over its graph. is_old: it is of PyTorch 1.10 or older."""
    import onnx
    import onnx_ir as ir
    import torch

    from converters.tracing.spellings.scripted import Rescripted

    target: Any = io.BytesIO()
    labels = {
        name: {axis: f"{name}_{axis}" if axis or array.shape[0] != arrays[0].shape[0] else "N" for axis in open_axes}
        for name, array, open_axes in zip(names, arrays, axes, strict=True)
        if open_axes
    }  # sizes that differ have labels that differ: runtimes reuse a buffer of the one for the other
    with Rescripted(OPSET, is_old=is_old):
        torch.onnx.export(
            module,
            tuple(arrays),
            target,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=names,
            dynamic_axes={name: found for name, found in labels.items() if found} or None,
            verbose=False,
        )
    model: onnx_ir.Model = ir.from_proto(onnx.ModelProto.FromString(target.getvalue()))
    _keep_unused_inputs(model, names, arrays, labels)
    _give_sizes(model)
    return model


def _give_sizes(model: onnx_ir.Model) -> None:
    """Corners that stay corners make the scale a matter of the sizes: runtimes differ where the given one makes no whole size."""
    import onnx_ir as ir
    from onnx_ir import tape as tapes

    for node in list(model.graph.all_nodes()):
        mode = node.attributes.get_string("coordinate_transformation_mode") if node.op_type == "Resize" else None
        if mode != "align_corners" or len(node.inputs) != 3 or node.graph is None or node.inputs[0] is None or node.inputs[2] is None:
            continue
        tape = tapes.Tape()
        shape = tape.op("Cast", [tape.op("Shape", [node.inputs[0]])], {"to": ir.DataType.FLOAT})
        sizes = tape.op("Cast", [tape.op("Floor", [tape.op("Mul", [shape, node.inputs[2]])])], {"to": ir.DataType.INT64})
        other = tape.op("Resize", [node.inputs[0], None, None, sizes], node.attributes)
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], list(tape.nodes), node.outputs, [other])


def _keep_unused_inputs(
    model: onnx_ir.Model, names: Sequence[str], arrays: Sequence[torch.Tensor], labels: Mapping[str, Mapping[int, str]]
) -> None:
    """What the program takes and doesn't use is an input all the same: the walk leaves it out."""
    import onnx_ir as ir

    there = {str(value.name): value for value in model.graph.inputs}
    for name, array in zip(names, arrays, strict=True):
        if name not in there:
            shape = [labels.get(name, {}).get(axis, int(size)) for axis, size in enumerate(array.shape)]
            kind = ir.tensor(array.new_zeros(())).dtype
            there[name] = ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))
    model.graph.inputs[:] = [there.pop(name) for name in names] + list(there.values())
