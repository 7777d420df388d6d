"""What a .t7 says of its model, module by module, without the packages that a graph needs."""

from __future__ import annotations

from typing import Any

from converters.errors import ConversionError, Source, about
from converters.files import StrPath
from converters.graph.outline import Outline, Row
from converters.options import DEFAULTS, LoadOptions
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import children, find_model, inner_modules
from converters.readers.torch7.weights import place
from converters.registry import stated_facts

_HOOK = "@lowers(TYPE), from converters.readers.torch7 import lowers, in a file that --plugin FILE.py --trust names"
_TOPICS = "converters.readers.torch7.modules"
_LEARNT = ("weight", "bias")
_KEPT = ("running_mean", "running_var", "running_std")
_PREPROCESSING = ("mean", "std", "normalization", "preprocess", "preprocessing", "transform", "meanstd", "img_mean", "img_std")
_MOST = 64


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """The modules of the file's model in the order of the containers, those that hold no other. Raises ConversionError."""
    import os

    file = os.fspath(path)
    with about(file):
        root = t7.read(path)
        found = Outline(hook=_HOOK, graph=True, preprocessing=_preprocessing(root))
        try:
            model = find_model(root, options.key)
        except ConversionError as problem:
            found.graph = False
            found.notes.append(problem.what)
            return found
        known = stated_facts(_TOPICS)
        seen: set[str] = set()
        counted: set[tuple[object, ...]] = set()
        for made, where in inner_modules(model):
            source = Source(file, "module", where or "(the model)", made.typename)
            if made.typename not in known and made.typename not in seen:
                seen.add(made.typename)
                found.unsupported.append(source)
            if not children(made):
                found.rows.append(_row(made, where, source, counted))
        return found


def _row(made: t7.TorchObject, where: str, source: Source, counted: set[tuple[object, ...]]) -> Row:
    sizes = dict.fromkeys((*_LEARNT, *_KEPT), 0)
    for role in sizes:
        value = made.get(role)
        if isinstance(value, t7.Tensor) and value.elements and place(value) not in counted:
            sizes[role] = value.elements
            counted.add(place(value))
    learnt, kept = (sum(sizes[role] for role in roles) for roles in (_LEARNT, _KEPT))
    return Row(where or "(the model)", made.typename, path=where, source=str(source), parameters=learnt, buffers=kept)


def _preprocessing(root: Any) -> dict[str, Any]:
    """What stands beside a model, or in its fields, under the names that training scripts give a mean and a deviation."""
    table = root.payload if isinstance(root, t7.TorchObject) else root
    found: dict[str, Any] = {}
    for name, value in table.items() if isinstance(table, t7.Table) else ():
        if isinstance(name, str) and name.lower() in _PREPROCESSING and (plain := _plain(value)) is not None:
            found[name] = plain
    return found


def _plain(value: Any, depth: int = 0) -> Any:
    """Numbers, text and small tables and tensors as Python values; None for anything else."""
    if isinstance(value, bool | float | str):
        return value
    if isinstance(value, t7.Tensor):
        return value.array.tolist() if 0 < value.elements <= _MOST else f"a tensor of {'x'.join(map(str, value.size))}"
    if isinstance(value, t7.Table) and depth < 4 and len(value) <= _MOST:
        entries = {str(int(k)) if isinstance(k, float) else str(k): _plain(item, depth + 1) for k, item in value.items()}
        return {name: item for name, item in entries.items() if item is not None}
    return None
