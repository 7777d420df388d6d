"""The text of a written file: its docstring, imports, functions, the class, and build()."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from converters.graph.names import identifier
from converters.graph.provenance import NOTES, PREPROCESSING, origin_sentence
from converters.writers.source.code import NOTE, comment
from converters.writers.source.lines import WIDTH, wrapped

RESERVED = frozenset({"self", "torch", "nn", "F", "math", "build", "PREPROCESS"})
"""Names that a written file uses itself."""


@dataclass
class ModuleText:
    """The class of a written file. init and forward: the lines of the two methods; classes: those of the classes of its blocks."""

    name: str
    base: str
    init: list[str]
    arguments: list[str]
    outputs: int
    forward: list[str]
    classes: list[str] = field(default_factory=list)


def class_name_of(name: str) -> str:
    """A net's name as that of a class: `resnet-50` is Resnet50, `VGG_ILSVRC_16_layers` VGGILSVRC16Layers.

    >>> class_name_of("resnet-50"), class_name_of("CaffeNet"), class_name_of("3d net"), class_name_of("")
    ('Resnet50', 'CaffeNet', 'Net3dNet', 'Model')
    """
    words = re.findall(r"[A-Za-z0-9]+", name)[:8]
    camel = "".join(word[0].upper() + word[1:] for word in words)[:60]
    camel = f"Net{camel}" if camel[:1].isdigit() else camel
    if not camel or identifier(camel) != camel or camel in RESERVED | set(all_functions()):
        camel = f"{camel}Model" if camel else "Model"
    return camel


def file_text(
    module: ModuleText,
    functions: set[str],
    net: str,
    weights: str,
    inputs: Iterable[ir.Value],
    outputs: Iterable[ir.Value],
    origin: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The whole file. net: the graph's name. weights: the file name of the state_dict. origin: graph.provenance.origin.

    metadata: the model's, with its preprocessing and what was changed in it.
    """
    carried, imports = extract_functions(functions)
    init = [line for text in module.init for line in wrapped(text, " " * 8)]
    forward = [line for text in module.forward for line in wrapped(text, " " * 8)]
    body = "\n".join(line.partition(NOTE)[0] for line in (*module.classes, *module.forward)) + carried
    weights = weights if re.fullmatch(r"[\w.+ -]+", weights, re.ASCII) else "NAME.pth"
    head = _docstring(net, weights, _shapes(inputs), _shapes(outputs), origin, metadata.get(NOTES, ""))
    head += ["import math", ""] if re.search(r"\bmath\.", body) or "math" in imports else []
    head += ["import torch"]
    head += ["import torch.nn.functional as F"] if re.search(r"\bF\.", body) else []
    head += ["from torch import nn", "", ""]
    head += _literal_of(metadata.get(PREPROCESSING, ""))
    head += [carried, "", ""] if carried else []
    text = [*head, *module.classes, f"class {module.name}({module.base}):"]
    if init != ["        super().__init__()"]:
        text += ["    def __init__(self) -> None:", *init, ""]
    typed = ", ".join(["self", *(f"{argument}: torch.Tensor" for argument in module.arguments)])
    answer = "torch.Tensor" if module.outputs == 1 else f"tuple[{', '.join(['torch.Tensor'] * module.outputs)}]"
    text += wrapped(f"def forward({typed}) -> {answer}:", " " * 4) + forward
    text += ["", "", "def build(weights: str | None = None) -> " + module.name + ":"]
    text += [f'    """The model in eval mode. weights: the file of its state_dict, such as "{weights}"."""']
    text += [f"    model = {module.name}()", "    if weights is not None:"]
    text += ["        model.load_state_dict(torch.load(weights, weights_only=True))", "    return model.eval()", ""]
    return "\n".join(text)


def _docstring(net: str, weights: str, inputs: str, outputs: str, origin: Mapping[str, Any] | None, notes: str) -> list[str]:
    name = comment(net)
    what = f"The net '{name}' in PyTorch" if name and re.fullmatch(r"[\w .:/+-]+", name) else "A net in PyTorch"
    shapes = textwrap.wrap(f"Inputs: {inputs}. Outputs: {outputs}.", WIDTH)
    for sentence in _notes(notes):
        shapes += textwrap.wrap(sentence, WIDTH)
    made = []
    if origin is not None:
        made = ["", *textwrap.wrap(_plain(origin_sentence(origin)), WIDTH)]
    return [f'"""{what}; {weights} has its weights.', "", f'    model = build("{weights}")', "", *shapes, *made, '"""', ""]


def _plain(text: str) -> str:
    """Text for a docstring: nothing in it ends one, or is an escape."""
    return re.sub(r"[^\w .,;:/()?+-]", "_", text, flags=re.ASCII)


def _notes(text: str) -> list[str]:
    """The sentences that a model carries, letter by letter harmless in a docstring."""
    try:
        notes = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    sentences = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return [_plain(sentence[:300]) for sentence in sentences[:10]]


def _literal_of(preprocessing: str) -> list[str]:
    """The preprocessing as a literal; nothing of a file becomes more than a number or a string in quotes."""
    try:
        fields = json.loads(preprocessing or "{}")
    except (ValueError, RecursionError):
        return []
    lines = []
    for key, value in fields.items() if isinstance(fields, dict) else ():
        parts = value if isinstance(value, list) else [value]
        is_plain = all(part is None or isinstance(part, int | str) or (isinstance(part, float) and math.isfinite(part)) for part in parts)
        if not is_plain or len(parts) > 4 or re.fullmatch(r"[a-z_]{1,30}", key) is None or len(repr(value)) > 160:
            return []
        written = [json.dumps(part) if isinstance(part, str) else repr(part) for part in parts]
        lines.append(f'    "{key}": ' + (f"[{', '.join(written)}]," if isinstance(value, list) else f"{written[0]},"))
    what = "# What the original does to an image before it goes in."
    return [what, "PREPROCESS = {", *lines, "}", "", ""] if lines else []


def _shapes(values: Iterable[ir.Value]) -> str:
    described = []
    for value in values:
        dims = (
            "of any shape"
            if value.shape is None
            else "(" + ", ".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in value.shape) + ")"
        )
        described.append(f"{value.name} {dims}")
    return _plain("; ".join(described)[:1000]) or "none"


# -- functions that the file carries along ---------------------------------------------------------------------------


@functools.cache
def all_functions() -> Mapping[str, Path]:
    """Every function and class of prelude, in order, and the file that it is in; most written files need none, and nothing is parsed."""
    files = sorted((Path(__file__).parent / "prelude").glob("*.py"))
    return {name: file for file in files for name in re.findall(r"^(?:def|class) (\w+)", file.read_text("utf-8"), re.MULTILINE)}


@functools.cache
def _parsed(file: Path) -> Mapping[str, tuple[str, frozenset[str]]]:
    """The functions of one file of prelude: the text of each, and the others that it calls."""
    text = file.read_text("utf-8")
    result = {}
    for item in ast.parse(text).body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef):
            decorators = "".join(f"@{ast.unparse(decorator)}\n" for decorator in item.decorator_list)
            called = {node.id for node in ast.walk(item) if isinstance(node, ast.Name)} & all_functions().keys() - {item.name}
            result[item.name] = (decorators + (ast.get_source_segment(text, item) or ""), frozenset(called))
    return result


def extract_functions(names: set[str]) -> tuple[str, set[str]]:
    """The text of these functions and of all that they call, and the modules that they need."""
    known = all_functions()
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(_parsed(known[name])[name][1])
    ordered = [name for name in known if name in needed]
    # torch.fx takes such a call as one step, so that it doesn't follow the function's own decisions
    text = "\n\n\n".join(("@torch.fx.wrap\n" if name in names else "") + _parsed(known[name])[name][0] for name in ordered)
    return text, ({"math"} if "math." in text else set())
