"""From one operator set to another: node by node, version by version, with the rules of rules/.

Where an operator's version changed and no rule is registered, the change was one of types, or added what is off by default; this is
checked against ONNX's own schemas, and what the other version can't say is refused by name. onnx.version_converter isn't used: it
loses Softmax's axis, and refuses much that has another form.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import onnx.defs
import onnx_ir as ir

from converters.errors import ConversionError, UnsupportedError
from converters.graph.names import Names
from converters.graph.provenance import source_of
from converters.registry import NoFacts, Registry
from converters.writers.onnx.opsets.site import NEWER, OLDER, RefusedError, Rule, Site

OLDEST = 9
"""The oldest operator set that is written."""


def to_opset(model: ir.Model, opset: int) -> None:
    """Rewrites the model's nodes, in subgraphs and functions too, for another operator set of ONNX's default domain.

    Raises ConversionError for a set that doesn't exist, UnsupportedError, a line per node, where the set can't say the same.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ConversionError(f"opset {opset} can't be written; choose one from {OLDEST} to {newest}")
    work = _Translation(model, opset)
    for part in _parts(model):
        current = part.opset_imports.get("", model.opset_imports.get("", opset))
        for node in list(part.all_nodes()):
            work.move(node, current)
    if work.refusals:
        more = [f"... and {len(work.refusals) - 20} more"] if len(work.refusals) > 20 else []
        raise UnsupportedError("\n".join([*work.refusals[:20], *more, "choose another --opset, or leave it out"]))
    for part in _parts(model):
        _remove_unused_constants(part)
        part.opset_imports.pop("ai.onnx", None)
        if "" in part.opset_imports:
            part.opset_imports[""] = opset


def _parts(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


class _Translation:
    """The names in use, and what had to be refused."""

    def __init__(self, model: ir.Model, target: int) -> None:
        self.target = target
        self.refusals: list[str] = []
        names = Names(model.graph.initializers)
        for part in _parts(model):
            values = [*part.inputs, *(value for node in part.all_nodes() for value in (*node.inputs, *node.outputs))]
            for value in values:
                names.add(str(value.name) if value is not None else "")
        self.unique = names.free

    def move(self, node: ir.Node, current: int) -> None:
        """Takes one node, written in set `current`, to the target; notes what can't be said there."""
        where = source_of(node) or f"node {node.name or (node.outputs[0].name if node.outputs else '?')}"
        op_type = node.op_type
        try:
            self._walk(node, current)
        except RefusedError as problem:
            self.refusals.append(f"{where}: {op_type} can't be written in operator set {self.target}: {problem}")

    def _walk(self, node: ir.Node, current: int) -> None:
        """From one change of the operator to the next. Raises RefusedError."""
        older = self.target < current
        stays = node.domain in ("", "ai.onnx")
        while stays:
            found = _older_step(node, current, self.target) if older else _newer_step(node, current, self.target)
            if found is None:
                return
            rule, current, here, there = found
            changed = here.since_version if older else current
            if rule is None and there is None:
                raise RefusedError(f"ONNX has it from set {changed} on")
            site = Site(node, current, self.unique)
            try:
                stays = not self._step(site, rule, here, there)
            except RefusedError as problem:
                raise RefusedError(f"{problem} ({'before' if older else 'from'} set {changed}{'' if older else ' on'})") from problem
            for part in site.emitted:
                try:
                    self._walk(part, current)
                except RefusedError as problem:
                    raise RefusedError(f"its {part.op_type}: {problem}" if part.op_type != node.op_type else str(problem)) from problem

    def _step(self, site: Site, rule: Rule | None, here: onnx.defs.OpSchema, there: onnx.defs.OpSchema | None) -> bool:
        """Over one change of the operator; whether other nodes stand in its place now."""
        if rule is not None and self._apply(site, rule):
            return True
        if there is None or there.deprecated:
            raise RefusedError(f"ONNX has {site.node.op_type} no more in newer sets")
        wide = _fit(site.node, here, there)
        return bool(wide) and self._apply(site, functools.partial(_in_wider_types, wide=wide, schema=there))

    def _apply(self, site: Site, rule: Rule) -> bool:
        """Lets a rule rewrite the node; whether others stand in its place now."""
        answer = rule(site, site.node)
        if answer is not None:
            self._replace(site, [answer] if isinstance(answer, ir.Value) else answer)
        return answer is not None

    def _replace(self, site: Site, values: Sequence[ir.Value | None]) -> None:
        """The values take the places, and those written for it the names, of the node's outputs."""
        node = site.node
        named: set[int] = set()
        for before, value in zip(node.outputs, values, strict=True):
            if value is None:
                if before.uses() or before.is_graph_output():
                    raise site.refusal(f"its output {before.name} is used, and has no other form")
                continue
            made = value.producer()
            fresh = made is not None and any(made is n for n in site.emitted) and made.op_type != "Constant" and id(value) not in named
            if not fresh:
                if not before.is_graph_output():
                    before.replace_all_uses_with(value)
                    continue
                value = site.emit("Identity", value)
            named.add(id(value))
            value.shape, value.type = before.shape or value.shape, before.type or value.type
            value.metadata_props.update(before.metadata_props)
            name = before.name
            before.replace_all_uses_with(value, replace_graph_outputs=True)
            before.name = self.unique(f"{name}_before")
            value.name = name
        graph = node.graph
        assert graph is not None
        graph.remove(node, safe=True)


def _fit(node: ir.Node, here: onnx.defs.OpSchema, there: onnx.defs.OpSchema) -> dict[str, ir.DataType]:
    """Makes a node fit another version of its operator's schema, but for the types that are answered. Refuses what can't."""
    for name, attr in list(node.attributes.items()):
        if name in there.attributes:
            continue
        if name not in here.attributes or not _is_default(attr, here.attributes[name]):
            raise RefusedError(f"its attribute {name} = {attr.value} isn't there")
        del node.attributes[name]
    for name in here.attributes.keys() & there.attributes.keys() - node.attributes.keys():
        default = here.attributes[name].default_value
        if default.type and default != there.attributes[name].default_value:
            node.attributes[name] = ir.from_proto(default)
    inputs = len(node.inputs)
    while inputs and node.inputs[inputs - 1] is None:
        inputs -= 1
    if inputs > there.max_input:
        raise RefusedError(f"its input {here.inputs[there.max_input].name} isn't there")
    if inputs < there.min_input:
        raise RefusedError(f"its input {there.inputs[inputs].name} can't be left out there")
    if sum(1 for value in node.outputs if value.uses() or value.is_graph_output()) > there.max_output:
        raise RefusedError(f"it has {len(node.outputs)} outputs")
    fits = [_is_taken(value, there.inputs, i) for i, value in enumerate(node.inputs)]
    if not all(fits + [_is_taken(value, there.outputs, i) for i, value in enumerate(node.outputs)]):
        raise RefusedError("it doesn't take sequences or optionals there")
    return _wider_types(node, there)


_Step: TypeAlias = "tuple[Rule | None, int, onnx.defs.OpSchema, onnx.defs.OpSchema | None]"


def _older_step(node: ir.Node, current: int, target: int) -> _Step | None:
    """The last change of the operator between the target and `current`: its rule, the set before it, and both schemas."""
    here = _schema(node.op_type, current)
    if here is None:
        raise RefusedError("ONNX doesn't have it")
    if here.since_version <= target:
        return None
    before = here.since_version - 1
    name = f"{node.op_type}-{here.since_version}"
    return _registered(OLDER, name), before, here, _schema(node.op_type, before)


def _newer_step(node: ir.Node, current: int, target: int) -> _Step | None:
    """The first change of the operator after `current`, up to the target: its rule, its set, and both schemas."""
    here = _schema(node.op_type, current)
    if here is None:
        raise RefusedError("ONNX doesn't have it")
    version = next((v for v in _versions().get(node.op_type, ()) if current < v <= target), None)
    if version is None:
        return None
    name = f"{node.op_type}-{version}"
    return _registered(NEWER, name), version, here, _schema(node.op_type, version)


def _registered(rules: Registry[Rule, NoFacts], name: str) -> Rule | None:
    if name not in rules:
        return None
    return rules[name]


@functools.cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None


@functools.cache
def _versions() -> dict[str, list[int]]:
    """The sets in which each operator changed, in order."""
    found: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found.setdefault(schema.name, []).append(schema.since_version)
    return {name: sorted(versions) for name, versions in found.items()}


def _is_default(attr: ir.Attr, stated: onnx.defs.OpSchema.Attribute) -> bool:
    """Whether the attribute says what its absence says."""
    if not stated.default_value.type:
        return False
    default = ir.from_proto(stated.default_value).value
    value = tuple(attr.value) if isinstance(attr.value, list | tuple) else attr.value
    return bool(value == (tuple(default) if isinstance(default, list | tuple) else default))


# -- types that the other version doesn't take ------------------------------------------------------------------------

_T = ir.DataType
_WIDER = {
    _T.BOOL: (_T.UINT8, _T.INT32, _T.INT64, _T.FLOAT),
    _T.INT8: (_T.INT32, _T.INT64, _T.FLOAT),
    _T.UINT8: (_T.INT32, _T.INT64, _T.FLOAT),
    _T.INT16: (_T.INT32, _T.INT64, _T.FLOAT),
    _T.UINT16: (_T.INT32, _T.INT64, _T.FLOAT),
    _T.INT32: (_T.INT64, _T.DOUBLE),
    _T.UINT32: (_T.INT64, _T.DOUBLE),
    _T.FLOAT16: (_T.FLOAT,),
}
"""Types that hold every number of another, in the order in which they are tried."""


def _spelled(dtype: ir.DataType) -> str:
    return f"tensor({dtype.name.lower()})"


def _is_taken(value: ir.Value | None, formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> bool:
    """Whether a sequence or an optional is of a type that the schema takes; tensors are looked at elsewhere."""
    if value is None or value.type is None or isinstance(value.type, ir.TensorType) or not formals:
        return True
    spelling, kind = "{}", value.type
    while isinstance(kind, ir.SequenceType | ir.OptionalType):
        spelling = spelling.format(f"{'seq' if isinstance(kind, ir.SequenceType) else 'optional'}({{}})")
        kind = kind.elem_type
    types = formals[min(index, len(formals) - 1)].types
    return not types or spelling.format(_spelled(kind.dtype)) in types


def _wider_types(node: ir.Node, schema: onnx.defs.OpSchema) -> dict[str, ir.DataType]:
    """For each type variable whose type the schema doesn't take, a wider one that it does. Refuses where there is none."""
    wide: dict[str, ir.DataType] = {}
    for index, value in enumerate(node.inputs):
        if value is None or not isinstance(value.type, ir.TensorType) or not schema.inputs:
            continue
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if not formal.types or _spelled(value.type.dtype) in formal.types:
            continue
        dtype = next((d for d in _WIDER.get(value.type.dtype, ()) if _spelled(d) in formal.types), None)
        if dtype is None:
            raise RefusedError(f"it doesn't take {value.type.dtype.name.lower()} there")
        wide[formal.type_str] = dtype
    return wide


def _in_wider_types(site: Site, node: ir.Node, *, wide: dict[str, ir.DataType], schema: onnx.defs.OpSchema) -> list[ir.Value]:
    """The same operator between casts to a wider type and back."""
    operands = []
    for index, value in enumerate(node.inputs):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        dtype = wide.get(formal.type_str)
        operands.append(value if value is None or dtype is None else site.cast(value, dtype))
    values = site.emit_all(node.op_type, *operands, outputs=len(node.outputs), **dict(node.attributes))
    answers = []
    for index, (value, before) in enumerate(zip(values, node.outputs, strict=True)):
        formal = schema.outputs[min(index, len(schema.outputs) - 1)]
        answers.append(site.cast(value, site.dtype(before)) if formal.type_str in wide else value)
    return answers


def _remove_unused_constants(part: ir.Graph | ir.Function) -> None:
    """Constants that the rules made attributes of."""
    for node in list(part.all_nodes()):
        used = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if node.op_type == "Constant" and not node.domain and node.graph is not None and not used:
            node.graph.remove(node, safe=True)
