"""From an ONNX file to the common graph: parsed, checked, functions written out, shapes inferred, tensors named as a state_dict."""

from __future__ import annotations

import functools
import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import google.protobuf.message
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.inliner
import onnx_ir as ir

from converters.errors import ConversionError, FormatError, Source, UnsupportedError, printable
from converters.files import StrPath, map_file
from converters.graph.builder import INLINE_LIMIT
from converters.graph.functions import attach, infer_shapes, rewrite
from converters.graph.passes import names_of, order_initializers, remove_unused, tidy
from converters.graph.patterns.found import find_patterns
from converters.graph.provenance import note_source
from converters.options import LoadOptions
from converters.readers.onnx.keys import rename_initializers
from converters.readers.onnx.linear import turn_weights
from converters.readers.onnx.old import graphs_of, modernise
from converters.readers.onnx.operators import OPERATORS, Operator
from converters.readers.onnx.tensors import Folder, attribute_tensors, dense, read_tensor, settle_tensor
from converters.readers.onnx.wire import Place, split_tensors

OLDEST_OPSET = 1
_IR_OF_SETS, _IR_OF_FREE_INITIALIZERS = 3, 4
"""The first versions of the format that say which operator set is meant, and whose initializers needn't be inputs."""
_EXPANSION_LIMIT = 200_000
"""More nodes than this don't come out of a model's functions."""


def read(paths: Sequence[StrPath], options: LoadOptions) -> ir.Model:
    """See converters.readers.onnx.load."""
    if len(paths) != 1:
        raise ConversionError(f"an ONNX model is one file, {len(paths)} are given")
    path = paths[0]
    file = os.path.basename(path)
    options.no_key(path, "an ONNX file")
    view = map_file(path)
    light, places = split_tensors(view, file)
    try:
        proto = onnx.ModelProto.FromString(light)
    except (google.protobuf.message.DecodeError, RuntimeError) as problem:
        raise FormatError(f"{file}: no ONNX model: {printable(problem)}") from problem
    del light
    try:
        return build(proto, places, view, Folder(path), inputs=options.shapes, dynamic=options.dynamic)
    except UnicodeDecodeError as problem:
        raise FormatError(f"{file}: a name in it isn't UTF-8") from problem


def from_proto(proto: onnx.ModelProto, file: str = "model.onnx") -> ir.Model:
    """A model that is in memory already; `proto` may be changed."""
    return build(proto, [None] * len(proto.graph.initializer), memoryview(b""), Folder(file))


def build(
    proto: onnx.ModelProto,
    places: list[Place | None],
    view: memoryview,
    folder: Folder,
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    dynamic: Mapping[tuple[str, int], str] | None = None,
) -> ir.Model:
    """The graph of a parsed model whose large tensors lie in `view` at `places`."""
    file = folder.file
    _check_text(proto, file)
    opset = _check_head(proto, file)
    _make_dense(proto, places, folder)
    tensors = _detach(proto, places, view, folder)
    for tensor in attribute_tensors(proto):
        settle_tensor(tensor, folder)
    modernise(proto, opset, file)
    for graph in graphs_of(proto.graph):
        _order(graph)
    _set_shapes(proto, inputs or {}, dynamic or {}, file, tensors.keys())
    _check_model(proto, file)
    _check_numbers(proto, file)
    proto = _infer(_write_out_functions(proto, file), file)
    try:
        model = ir.from_proto(proto)
    except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as problem:
        raise FormatError(f"{file}: not a valid ONNX model: {_first_line(problem)}") from problem
    attach(model, tensors)
    prepare(model, file)
    return model


def from_model(model: ir.Model, file: str, keys: frozenset[str] = frozenset()) -> ir.Model:
    """Another exporter's graph as one of ours: functions written out, types and shapes inferred. Its tensors are kept as they are.

    keys: names of initializers that are keys of a state_dict already.
    """
    made = rewrite(model, lambda proto: _write_out_functions(proto, file))
    prepare(made, file, keys)
    return made


def prepare(model: ir.Model, file: str, keys: frozenset[str] = frozenset()) -> None:
    """Makes another exporter's graph one of ours: sources noted, settings told from weights, names that a state_dict can have."""
    _measure(model)
    tidy(model)
    _note_sources(model, file)
    if keys:
        _drop_zero_biases(model, keys)
    else:
        _give_each_its_own(model)
    _separate_constants(model, keys)
    remove_unused(model)
    patterns = find_patterns(model, products=True)
    rename_initializers(model, keys, patterns)
    turn_weights(model, patterns, keys)
    order_initializers(model)


def _measure(model: ir.Model) -> None:
    """An initializer's shape and type are its tensor's: one that is an output too has what the file says of that, which may be nothing."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.shape, value.dtype = ir.Shape(value.const_value.shape.numpy()), value.const_value.dtype


def _check_text(proto: onnx.ModelProto, file: str) -> None:
    """Every text is text: protobuf hands out bytes for what isn't UTF-8."""
    waiting: list[google.protobuf.message.Message] = [proto]
    while waiting:
        for field, value in waiting.pop().ListFields():
            values: Any = (value,) if isinstance(value, str | bytes | int | float | google.protobuf.message.Message) else value
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                waiting.extend(values)
            elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in values):
                raise FormatError(f"{file}: {field.full_name} in it isn't UTF-8 text")


_AXES = frozenset({"axis", "axes", "batch_axis", "time_axis", "perm"})
_MOST_AXES = 64


def _check_numbers(proto: onnx.ModelProto, file: str) -> None:
    """Attributes that ONNX's own inference would believe without looking, and die of."""
    waiting: list[Iterable[onnx.NodeProto]] = [proto.graph.node, *(function.node for function in proto.functions)]
    while waiting:
        for node in waiting.pop():
            for attribute in node.attribute:
                numbers = [*attribute.ints, attribute.i]
                if attribute.name in _AXES and any(abs(number) > _MOST_AXES for number in numbers):
                    raise FormatError(
                        f"{file}: node '{printable(node.name)}' ({printable(node.op_type)}): no tensor has axis {max(numbers, key=abs)}"
                    )
                if attribute.name == "num_outputs" and attribute.i != len(node.output):
                    raise FormatError(
                        f"{file}: node '{printable(node.name)}' ({printable(node.op_type)}): {attribute.i} outputs are stated, "
                        f"{len(node.output)} are there"
                    )
                waiting.extend(graph.node for graph in attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g.node)


def _check_model(proto: onnx.ModelProto, file: str) -> None:
    """ONNX's own checker; but runtimes also take inputs and outputs whose rank, and outputs whose type, isn't stated."""
    untyped = [value for value in proto.graph.output if value.type.WhichOneof("value") is None]
    for value in untyped:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    values = [value for value in [*proto.graph.input, *proto.graph.output] if value.type.HasField("tensor_type")]
    unranked = [value.type.tensor_type for value in values if not value.type.tensor_type.HasField("shape")]
    for kind in unranked:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(proto, skip_opset_compatibility_check=True)
    except onnx.checker.ValidationError as problem:
        raise FormatError(f"{file}: not a valid ONNX model: {_first_line(problem)}") from problem
    finally:
        for kind in unranked:
            kind.ClearField("shape")
        for value in untyped:
            value.ClearField("type")


def _first_line(problem: Exception) -> str:
    return printable(str(problem).strip().split("\n", 1)[0], 300)


def _check_head(proto: onnx.ModelProto, file: str) -> int:
    """The operator set that the model is written in."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise FormatError(f"{file}: no ONNX model: there is no graph in it")
    if not proto.opset_import and 0 < proto.ir_version < _IR_OF_SETS:
        proto.opset_import.add(domain="", version=1)
    proto.ir_version = max(proto.ir_version, _IR_OF_FREE_INITIALIZERS)
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    if "ai.onnx" in opsets and "" not in opsets:
        opsets[""] = opsets["ai.onnx"]
    newest = onnx.defs.onnx_opset_version()
    opset = opsets.get("")
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        advice = "a newer `onnx` package" if opset > newest else "onnx.version_converter first"
        raise UnsupportedError(f"{file}: written in opset {opset}; {OLDEST_OPSET} to {newest} are read here; use {advice}")
    if opset is None:
        raise FormatError(f"{file}: it doesn't say which opset it is written in")
    return int(opset)


def _make_dense(proto: onnx.ModelProto, places: list[Place | None], folder: Folder) -> None:
    """Sparse initializers become plain ones."""
    for sparse in proto.graph.sparse_initializer:
        proto.graph.initializer.append(dense(sparse, folder))
        places.append(None)
    del proto.graph.sparse_initializer[:]


def _order(graph: onnx.GraphProto) -> None:
    """Nodes behind what they take: some tools write them in any order. A circle is left to the checker."""
    nodes = list(graph.node)
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in _taken(node) if name in maker} for node in nodes]
    if all(before < number for number, those in enumerate(needs) for before in those):
        return
    users: dict[int, list[int]] = {}
    for number, those in enumerate(needs):
        for before in those:
            users.setdefault(before, []).append(number)
    ready = [number for number, those in enumerate(needs) if not those]
    heapq.heapify(ready)
    done: list[onnx.NodeProto] = []
    while ready:
        number = heapq.heappop(ready)
        done.append(onnx.NodeProto.FromString(nodes[number].SerializeToString()))
        for user in users.get(number, ()):
            needs[user].discard(number)
            if not needs[user]:
                heapq.heappush(ready, user)
    if len(done) == len(nodes):
        del graph.node[:]
        graph.node.extend(done)


def _taken(node: onnx.NodeProto) -> set[str]:
    """What a node takes, its subgraphs too."""
    names, graphs = set(node.input), [g for a in node.attribute for g in [*a.graphs, *([a.g] if a.HasField("g") else [])]]
    while graphs:
        graph = graphs.pop()
        for inner in graph.node:
            names.update(inner.input)
            graphs += [g for a in inner.attribute for g in [*a.graphs, *([a.g] if a.HasField("g") else [])]]
        names.update(value.name for value in graph.output)
    return names


def _detach(proto: onnx.ModelProto, places: list[Place | None], view: memoryview, folder: Folder) -> dict[str, ir.TensorProtocol]:
    """Takes large and external initializers out of the protobuf: they become inputs until the graph is made."""
    tensors: dict[str, ir.TensorProtocol] = {}
    small = []
    seen: set[str] = set()
    if len(places) != len(proto.graph.initializer):
        raise FormatError(f"{folder.file}: no ONNX model: its graph is in several pieces")
    for tensor, place in zip(proto.graph.initializer, places, strict=True):
        if not tensor.name or tensor.name in seen:
            raise FormatError(f"{folder.file}: two initializers (or none) are named '{printable(tensor.name)}'")
        seen.add(tensor.name)
        data = read_tensor(tensor, place, view, folder)
        if place is None and tensor.data_location != onnx.TensorProto.EXTERNAL:
            small.append(tensor)
        else:
            tensors[tensor.name] = data
    inputs = {value.name for value in proto.graph.input}
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    for name, data in tensors.items():
        if name not in inputs:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, int(data.dtype), data.shape.numpy()))
    return tensors


def _set_shapes(
    proto: onnx.ModelProto, inputs: Mapping[str, Sequence[int]], dynamic: Mapping[tuple[str, int], str], file: str, detached: Set[str]
) -> None:
    """Puts the given shapes and the labels of open axes into the inputs; "" is the only one. detached: weights that are inputs by now."""
    initializers = {tensor.name for tensor in proto.graph.initializer} | detached
    named = {value.name: value for value in proto.graph.input if value.name not in initializers}
    only = next(iter(named)) if len(named) == 1 else ""
    for name, shape in inputs.items():
        name = name or only
        if name not in named:
            raise ConversionError(f"{file}: no input is named {printable(name)!r}; there are {', '.join(map(printable, named))}")
        dims = named[name].type.tensor_type.shape.dim
        if named[name].type.tensor_type.HasField("shape") and len(dims) != len(shape):
            raise ConversionError(f"{file}: input {printable(name)!r} has {len(dims)} axes, the shape given {len(shape)}")
        if not named[name].type.tensor_type.HasField("shape"):
            for size in shape:
                dims.add().dim_value = int(size)
            continue
        asked = {axis for given, axis in dynamic if (given or only) == name}
        for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            if dim.dim_param and axis and axis not in asked:
                dim.dim_value = int(size)  # but for the batch, what is given is meant
            elif dim.HasField("dim_value") and dim.dim_value not in (0, size):
                dim.Clear()  # both are meant to work
            elif not dim.HasField("dim_value") and not dim.dim_param:
                dim.dim_value = int(size)
    for (name, axis), label in dynamic.items():
        found = named.get(name or only)
        if found is not None and axis < len(found.type.tensor_type.shape.dim):
            found.type.tensor_type.shape.dim[axis].dim_param = label


def _write_out_functions(proto: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """A model's own functions become their bodies."""
    _check_recursion(proto, file)
    if not proto.functions:
        return proto
    try:
        return onnx.inliner.inline_local_functions(proto, convert_version=True)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as problem:
        raise UnsupportedError(f"{file}: its functions can't be written out: {_first_line(problem)}") from problem


def _check_recursion(proto: onnx.ModelProto, file: str) -> None:
    """Functions must not call themselves, nor grow without bounds. Raises FormatError."""
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    remaining = dict(bodies)
    while remaining:
        ready = [name for name, nodes in remaining.items() if all((n.domain, n.op_type) not in remaining for n in nodes)]
        if not ready:
            raise FormatError(f"{file}: functions that call one another in a circle, '{printable(next(iter(remaining))[1])}' among them")
        for name in ready:
            sizes[name] = sum(sizes.get((n.domain, n.op_type), 1) for n in remaining.pop(name))
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in proto.graph.node)
    if total > max(_EXPANSION_LIMIT, 2 * len(proto.graph.node)):
        raise FormatError(f"{file}: its functions come to {total} nodes when they are written out")


def _infer(proto: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """With shapes and types inferred. Raises FormatError where an output is stated to be of another type than its node makes."""
    stated = [value.type.tensor_type.elem_type for value in proto.graph.output]
    for value, dtype in zip(proto.graph.output, stated, strict=True):
        if dtype:
            value.type.tensor_type.elem_type = onnx.TensorProto.UNDEFINED  # so that inference says what it is
    proto = infer_shapes(proto)
    for value, dtype in zip(proto.graph.output, stated, strict=True):
        made = value.type.tensor_type.elem_type
        if dtype and made not in (onnx.TensorProto.UNDEFINED, dtype):
            names = [onnx.TensorProto.DataType.Name(number).lower() for number in (dtype, made)]
            raise FormatError(
                f"{file}: output '{printable(value.name)}' is stated to be {names[0]}, but its node makes {names[1]}",
                hint="no runtime takes such a file; export it again",
            )
        if dtype:
            value.type.tensor_type.elem_type = dtype
    return proto


def _note_sources(model: ir.Model, file: str) -> None:
    for number, node in enumerate(model.graph):
        name = node.name or next((str(value.name) for value in node.outputs if value.name), "") or str(number)
        note_source(node, Source(file, "operator", name, node.op_type))


def _give_each_its_own(model: ir.Model) -> None:
    """Weights that stand once because they are equal, as PyTorch's exporter has them, stand at each of their places again.

    It leaves an Identity there, whose output has the name that the weight had.
    """
    graph = model.graph
    for node in list(graph):
        value = node.inputs[0] if node.op_type == "Identity" and node.domain in ("", "ai.onnx") and node.inputs else None
        output = node.outputs[0]
        if value is None or graph.initializers.get(str(value.name)) is not value or value.const_value is None or output.is_graph_output():
            continue
        if len(value.uses()) == 1:
            output.replace_all_uses_with(value)
            graph.remove(node, safe=True)
            continue
        tensor, name = value.const_value, str(output.name)
        same = ir.LazyTensor(functools.partial(_itself, tensor), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)
        own = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=same)
        output.replace_all_uses_with(own)
        graph.remove(node, safe=True)
        graph.register_initializer(own)


def _itself(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return tensor


def _drop_zero_biases(model: ir.Model, keys: frozenset[str]) -> None:
    """PyTorch's exporter gives convolutions without a bias one of zeros."""
    for node in model.graph:
        bias = node.inputs[2] if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) == 3 else None
        if bias is not None and bias.name not in keys:
            known = ir.convenience.get_const_tensor(bias)
            if known is not None and not known.numpy().any():
                node.resize_inputs(2)


def _separate_constants(model: ir.Model, keys: frozenset[str]) -> None:
    """Small integers and scalars are constants; large Constant nodes are initializers. So the state_dict holds what was learnt."""
    graph = model.graph
    _hoist(graph, keys)
    for node in list(graph):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and "value" in node.attributes:
            tensor = node.attributes["value"].as_tensor()
            output = node.outputs[0]
            if _is_learnt(output, tensor, keys) and output.name not in graph.initializers:
                value = ir.Value(
                    name=output.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
                )
                output.replace_all_uses_with(value)
                graph.remove(node, safe=True)
                graph.register_initializer(value)
    constants: list[ir.Node] = []
    for name, value in list(graph.initializers.items()):
        const = value.const_value
        if const is None or name in keys or value.is_graph_output() or not _is_setting(value, const):
            continue
        del graph.initializers[name]
        output = ir.Value(name=name, shape=ir.Shape(const.shape.numpy()), type=ir.TensorType(const.dtype), const_value=const)
        value.replace_all_uses_with(output)
        constants.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", const)], outputs=[output], name=f"{name}_constant"))
    first = next(iter(graph), None)
    if first is not None and constants:
        graph.insert_before(first, constants)


def _hoist(graph: ir.Graph, keys: frozenset[str]) -> None:
    """Weights inside branches and loops become initializers of the graph around, under names that nothing else has."""
    inside = list(graph.subgraphs())
    if not inside:
        return
    names = names_of(graph)
    there = [value.name for node in graph.all_nodes() for value in node.outputs]
    counts = Counter(
        [*there, *(name for inner in [graph, *inside] for name in [*inner.initializers, *(value.name for value in inner.inputs)])]
    )
    for inner in inside:
        held = {value: value.const_value for value in inner.initializers.values() if value.const_value is not None}
        constants = [node for node in inner if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and "value" in node.attributes]
        held |= {node.outputs[0]: node.attributes["value"].as_tensor() for node in constants}
        for value, tensor in held.items():
            if not _is_learnt(value, tensor, keys):
                continue
            producer, name = value.producer(), str(value.name) if counts[value.name] == 1 else names.free(str(value.name))
            hoisted = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.replace_all_uses_with(hoisted)
            if producer is None:
                del inner.initializers[str(value.name)]
            else:
                inner.remove(producer, safe=True)
            graph.register_initializer(hoisted)


def _is_learnt(value: ir.Value, tensor: ir.TensorProtocol, keys: frozenset[str]) -> bool:
    """Whether a constant inside the graph is a weight: a large one, or one that an operator has learnt.

    keys: of the module that was exported, if one was: an instance norm's ones and zeros beside them are the exporter's own.
    """
    if value.is_graph_output() or tensor.dtype == ir.DataType.STRING:
        return False
    if keys and all(use.node.op_type == "InstanceNormalization" for use in value.uses()):
        return False
    if tensor.size > INLINE_LIMIT:
        return True
    roles = [_operator(use.node).roles[use.idx : use.idx + 1] for use in value.uses()]
    is_of_a_layer = tensor.dtype.is_floating_point() and len(tensor.shape) > 0 and any(role not in ((), ("",)) for role in roles)
    return is_of_a_layer and not _is_neutral(value, tensor)


def _is_neutral(value: ir.Value, tensor: ir.TensorProtocol) -> bool:
    """Whether a constant is the ones or zeros that a batch normalization without a weight and a bias is given."""
    uses = value.uses()
    return all(use.node.op_type == "BatchNormalization" and use.idx in (1, 2) for use in uses) and all(
        bool((tensor.numpy() == 2 - use.idx).all()) for use in uses
    )


def _is_setting(value: ir.Value, const: ir.TensorProtocol) -> bool:
    if const.size > INLINE_LIMIT or const.dtype == ir.DataType.STRING:
        return False
    if not const.dtype.is_floating_point():
        return not any(use.idx == 0 and use.node.op_type == "Gather" and len(const.shape) > 1 for use in value.uses())
    if len(const.shape) == 0 and "." not in str(value.name):  # with a module's path in its name it was learnt
        return True
    if const.size == 1 and "." not in str(value.name) and all(_operator(use.node).arithmetic for use in value.uses()):
        return True
    return all(use.idx in _operator(use.node).settings and const.size <= INLINE_LIMIT for use in value.uses())


def _operator(node: ir.Node) -> Operator:
    return OPERATORS.get(node.op_type, Operator())
