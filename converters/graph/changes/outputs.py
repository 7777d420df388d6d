"""Ends a graph in inner values, by their names: what `--output NAME` and load(outputs=...) ask for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import onnx_ir as ir

from converters.errors import ConversionError, printable
from converters.graph.builder import ALIASES
from converters.graph.passes import remove_unused
from converters.graph.provenance import ALSO, original_name, path_of


def cut(model: ir.Model, names: Sequence[str]) -> None:
    """Makes the named values the graph's outputs, in this order, and removes what only the others needed, inputs too.

    A value is found by its name in the graph, or by its name in the source. Raises ConversionError for a name that no value has,
    for an input or a parameter, and for a name that is given twice.
    """
    graph = model.graph
    values = [value for node in graph if node.op_type != "Constant" for value in node.outputs if value.name]
    here = {str(value.name): value for value in values}
    found = {path_of(node): node.outputs[0] for node in graph if path_of(node)}  # a layer is what its last node answers
    aliases: dict[str, ir.Value] = model.meta.get(ALIASES, {})  # of this graph, or of the one that it is a copy of
    found |= {name: here[str(value.name)] for name, value in aliases.items() if str(value.name) in here}
    found |= {original_name(value): value for value in values}
    found |= {node.metadata_props[ALSO]: node.outputs[0] for node in graph if ALSO in node.metadata_props}
    found |= {str(value.name): value for value in values}
    chosen = []
    for name in names:
        if name not in found:
            raise _unknown(name, found, model)
        if found[name] in chosen:
            raise ConversionError(f"the output '{printable(name)}' is asked for twice")
        chosen.append(found[name])
    graph.outputs.clear()
    graph.outputs.extend(chosen)
    remove_unused(model)
    for value in list(graph.inputs):
        if not value.uses() and len(graph.inputs) > 1:
            graph.inputs.remove(value)


def ending_in(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of the graph whose outputs are these inner values."""
    opened = model.clone()
    values = {str(value.name): value for node in opened.graph for value in node.outputs}
    opened.graph.outputs.clear()
    opened.graph.outputs.extend(values[name] for name in names)
    return opened


def _unknown(name: str, found: dict[str, ir.Value], model: ir.Model) -> ConversionError:
    if any(value.name == name for value in [*model.graph.inputs, *model.graph.initializers.values()]):
        return ConversionError(f"'{printable(name)}' is an input or a parameter, not what a layer computes")
    near = difflib.get_close_matches(name, found, 5, 0.4) or list(found)[-5:]
    return ConversionError(f"the model has no value '{printable(name)}' to end in", hint=f"it has {', '.join(map(printable, near))}")
