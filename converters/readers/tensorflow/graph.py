"""TensorFlow's graphs as records: GraphDef, MetaGraphDef and SavedModel, in binary or text form.

Sources: TensorFlow's core/framework/{graph,node_def,attr_value,tensor,function}.proto, core/protobuf/{meta_graph,saved_model}.proto.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from converters.errors import FormatError, Source, about, printable
from converters.files import StrPath, map_file
from converters.readers.tensorflow.tensors import Stored
from converters.schemas import tensorflow_pb2 as pb
from converters.schemas.wire import BYTES, fields, spans

_HEAVY = 4096
"""Nodes of fewer bytes are given to protobuf as they are; in others the numbers stay where they are in the file."""
_TEXT_LIMIT = 256 << 20
_CONTENT = (4, 5, 6)
"""Fields of a TensorProto that are views: tensor_content, float_val, double_val."""

_SINKS = frozenset({"NoOp", "Assert", "SaveV2", "MergeV2Checkpoints", "Save", "SaveSlices", "ShardedFilename"})
"""Operators whose results nobody is meant to see."""

_PARTS = frozenset({"Switch", "RefSwitch", "Merge", "RefMerge", "Shape"})
"""Ends that are nobody's output: parts of branches, sizes."""

Port = tuple[str, int]
"""A node's name, and which of its outputs."""


@dataclass(frozen=True)
class Node:
    """A node of the graph. inputs: what data it takes, without control inputs. stored: the numbers of a large constant."""

    name: str
    op: str
    inputs: tuple[Port, ...]
    attributes: Mapping[str, pb.AttrValue]
    source: Source
    controls: tuple[str, ...] = ()
    stored: Stored | None = None

    def has(self, name: str) -> bool:
        """Whether the file states the attribute."""
        return name in self.attributes

    def _value(self, name: str, kind: str) -> pb.AttrValue | None:
        value = self.attributes.get(name)
        if value is None:
            return None
        if value.WhichOneof("value") != kind:
            raise self.source.error(f"its attribute {name} is no {kind}")
        return value

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers. Raises ConversionError where it is missing and has no default."""
        value = self._value(name, "list")
        if value is not None:
            return list(value.list.i)
        if default is None:
            raise self.source.error(f"its attribute {name} is missing")
        return list(default)

    def integer(self, name: str, default: int) -> int:
        value = self._value(name, "i")
        return default if value is None else value.i

    def real(self, name: str, default: float) -> float:
        value = self._value(name, "f")
        return default if value is None else value.f

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._value(name, "b")
        return default if value is None else value.b

    def text(self, name: str, default: str) -> str:
        value = self._value(name, "s")
        return default if value is None else value.s.decode("utf-8", "backslashreplace")

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty where it isn't stated."""
        value = self._value(name, "list")
        return [] if value is None else [text.decode("utf-8", "backslashreplace") for text in value.list.s]

    def type_number(self, name: str, default: int = 0) -> int:
        """A type by TensorFlow's number."""
        value = self._value(name, "type")
        return default if value is None else int(value.type)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """A shape, None for sizes that are open; None where even the number of axes is."""
        value = self._value(name, "shape")
        if value is None or value.shape.unknown_rank:
            return None
        return tuple(dim.size if dim.size >= 0 else None for dim in value.shape.dim)


@dataclass
class Graph:
    """A graph's nodes by name. outputs: what a signature names, "node:0". restore: the node that a saver restores variables with.

    version: of the TensorFlow that wrote it, where it says so.
    """

    path: str
    nodes: dict[str, Node]
    outputs: list[str] = field(default_factory=list)
    restore: str = ""
    version: str = ""

    @property
    def base(self) -> str:
        """The file's name, that of the folder for a SavedModel."""
        name = os.path.basename(self.path)
        return os.path.basename(os.path.dirname(os.path.abspath(self.path))) if name == "saved_model.pb" else name

    def readers(self) -> dict[str, list[Node]]:
        """Who takes what a node gives, by its name."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for name, _ in node.inputs:
                found.setdefault(name, []).append(node)
        return found

    def ends(self) -> list[str]:
        """Nodes that nothing reads and that compute something of the inputs."""
        read = self.readers()
        return [
            node.name
            for node in self.nodes.values()
            if node.name not in read
            and node.inputs
            and node.op not in _SINKS
            and not node.op.startswith(("Assign", "Apply", "Summary"))
            and not node.op.endswith("Summary")
        ]

    def of_inputs(self) -> set[str]:
        """The inputs, and the nodes that compute something of them."""
        readers = self.readers()
        found: set[str] = set()
        waiting = [node.name for node in self.nodes.values() if node.op == "Placeholder"]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [node.name for node in readers.get(name, ())]
        return found

    def proposed(self) -> list[str]:
        """What may be an output: ends that follow from an input, without those of training where there are others."""
        ends = self.ends()
        of_inputs = self.of_inputs()
        likely = [name for name in ends if name in of_inputs and self.nodes[name].op not in _PARTS and not name.startswith("gradients/")]
        return likely or ends

    def needed(self, outputs: Iterable[str], until: Container[str] = ()) -> set[str]:
        """The nodes that some outputs need, whatever branches are taken; what lies before those of `until` isn't."""
        found: set[str] = set()
        waiting = list(outputs)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.nodes:
                found.add(name)
                if name not in until:
                    waiting += [source for source, _ in self.nodes[name].inputs]
        return found


def read_graph(path: StrPath, kind: str) -> Graph:
    """The graph of a file of a kind (recognition.KINDS). Raises FormatError for one that is broken."""
    given = os.fspath(path)
    view = map_file(path)
    with about(given):
        try:
            if kind == "tensorflow-text":
                return _from_text(given, view)
            if kind == "tensorflow-meta":
                return _meta_graph(given, view)
            if kind == "tensorflow-savedmodel":
                return _saved_model(given, view)
            return _graph(given, view)
        except DecodeError as problem:
            raise FormatError("no TensorFlow graph: its protobuf is broken", hint="fetch the file again") from problem


def _graph(path: str, view: memoryview) -> Graph:
    nodes: dict[str, Node] = {}
    for number, wire, _, payload in fields(view, "the graph"):
        if number > 5 or (number == 1 and wire != BYTES):
            raise FormatError("no TensorFlow graph, or something follows it", hint="fetch the file again")
        if number == 1:
            message, stored = _split(payload)
            _add(nodes, message, stored, path)
    if not nodes:
        raise FormatError("the graph has no nodes")
    return Graph(path, nodes)


def _add(nodes: dict[str, Node], message: pb.NodeDef, stored: Stored | None, path: str) -> None:
    source = Source(path, "operator", message.name, message.op)
    if not message.name or not message.op:
        raise source.error("a node without a name" if not message.name else "a node that doesn't say what it computes")
    if message.name in nodes:
        raise source.error("two nodes have this name")
    inputs, controls = [], []
    for text in message.input:
        if text.startswith("^"):
            controls.append(text[1:])
            continue
        name, _, number = text.partition(":")
        if number and not re.fullmatch(r"\d{1,9}", number):
            raise source.error(f"its input '{printable(text)}' makes no sense")
        inputs.append((name, int(number or 0)))
    nodes[message.name] = Node(message.name, message.op, tuple(inputs), dict(message.attr.items()), source, tuple(controls), stored)


def _split(view: memoryview) -> tuple[pb.NodeDef, Stored | None]:
    """A node, and the numbers of a large constant as a view."""
    if len(view) < _HEAVY:
        return pb.NodeDef.FromString(bytes(view)), None
    node, stored = pb.NodeDef(), None
    for number, wire, _, payload in fields(view, "a node"):
        if wire != BYTES:
            raise FormatError("no TensorFlow graph: a node is broken")
        if number == 1:
            node.name = bytes(payload).decode("utf-8", "backslashreplace")
        elif number == 2:
            node.op = bytes(payload).decode("utf-8", "backslashreplace")
        elif number == 3:
            node.input.append(bytes(payload).decode("utf-8", "backslashreplace"))
        elif number == 5:
            entry = {n: inner for n, w, _, inner in fields(payload, "an attribute") if w == BYTES}
            key = bytes(entry.get(1, b"")).decode("utf-8", "backslashreplace")
            value = entry.get(2, memoryview(b""))
            tensor = next((inner for n, w, _, inner in fields(value, "an attribute") if n == 8 and w == BYTES), None)
            if key == "value" and tensor is not None and len(tensor) >= _HEAVY:
                proto, stored = _split_tensor(tensor)
                node.attr[key].tensor.CopyFrom(proto)
            else:
                node.attr[key].ParseFromString(bytes(value))
    return node, stored


def _split_tensor(view: memoryview) -> tuple[pb.TensorProto, Stored | None]:
    proto = pb.TensorProto()
    found: list[Stored] = []
    for number, wire, value, payload in fields(view, "a constant"):
        if number == 1:
            proto.dtype = value  # type: ignore[assignment]
        elif number == 2 and wire == BYTES:
            proto.tensor_shape.ParseFromString(bytes(payload))
        elif number in _CONTENT and wire == BYTES:
            found.append(Stored(number, payload))
    if len(found) == 1:
        return proto, found[0]
    return pb.TensorProto.FromString(bytes(view)), None


def _without(view: memoryview, number: int, message: Message) -> memoryview | None:
    """Parses a message but for one field, whose payload is answered."""
    left, parts = None, []
    for n, wire, begin, start, end in spans(view, 0, len(view), "the file"):
        if n == number and wire == BYTES:
            left = view[start:end]
        else:
            parts.append(view[begin:end])
    message.ParseFromString(b"".join(parts))
    return left


def _meta_graph(path: str, view: memoryview) -> Graph:
    meta = pb.MetaGraphDef()
    inner = _without(view, 2, meta)
    if inner is None:
        raise FormatError("this MetaGraphDef holds no graph")
    return _described(_graph(path, inner), meta)


def _described(graph: Graph, meta: pb.MetaGraphDef) -> Graph:
    """What a MetaGraphDef says beside its graph: the signature, the saver, who wrote it."""
    graph.restore, graph.version = meta.saver_def.restore_op_name, meta.meta_info_def.tensorflow_version
    signatures = {name: signature for name, signature in meta.signature_def.items() if not name.startswith("__")}
    signature = signatures.get("serving_default") or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    if signature is not None:
        graph.outputs = [signature.outputs[key].name for key in sorted(signature.outputs)]
    return graph


def _saved_model(path: str, view: memoryview) -> Graph:
    """The graph for serving: the one whose tag is `serve` alone, or the only one."""
    found: list[tuple[set[str], pb.MetaGraphDef, memoryview]] = []
    for number, wire, _, payload in fields(view, "the SavedModel"):
        if number == 2 and wire == BYTES:
            meta = pb.MetaGraphDef()
            inner = _without(payload, 2, meta)
            if inner is not None:
                found.append((set(meta.meta_info_def.tags), meta, inner))
    chosen = [entry for entry in found if entry[0] == {"serve"}] or [entry for entry in found if "serve" in entry[0]]
    if len(chosen) != 1:
        tags = "; ".join(", ".join(sorted(tags)) or "none" for tags, _, _ in found)
        raise FormatError(f"a TensorFlow SavedModel with {len(chosen)} graphs for serving (tags of its graphs: {printable(tags)})")
    _, meta, inner = chosen[0]
    return _described(_graph(path, inner), meta)


def _from_text(path: str, view: memoryview) -> Graph:
    if len(view) > _TEXT_LIMIT:
        raise FormatError(f"{len(view)} bytes are too long for a graph in text form", hint="give the binary form")
    try:
        text = bytes(view).decode("utf-8-sig")
        meta = pb.MetaGraphDef()
        if re.search(r"^\s*(graph_def|meta_info_def)\s*\{", text, re.MULTILINE):
            text_format.Parse(text, meta, allow_unknown_field=True)
        else:
            text_format.Parse(text, meta.graph_def, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as problem:
        line = getattr(problem, "GetLine", lambda: None)()
        raise FormatError(f"no TensorFlow graph in text form: {printable(problem, 200)}", line=line) from problem
    nodes: dict[str, Node] = {}
    for message in meta.graph_def.node:
        _add(nodes, message, None, path)
    if not nodes:
        raise FormatError("the graph has no nodes")
    return _described(Graph(path, nodes), meta)
