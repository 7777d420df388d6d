"""What nn.Module.state_dict would give, walked over Stubs: parameters, persistent buffers, then children, in order.

Source: torch/nn/modules/module.py, `Module.state_dict` and `_save_to_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.errors import ConversionError, FormatError, UnsupportedError, printable, warn
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sharded import ShardTensor
from converters.readers.pytorch.storages import TypedStorage, as_weight
from converters.readers.pytorch.tensors import TENSOR_CLASSES
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.tensor import RebuiltTensor, Weight

_DEPTH = 2000  # modules in modules; torch itself gives up at some hundred
_MODULES = 200_000  # counted once for each path that leads to them, as state_dict does
_KEYS = 1_000_000
_PATHS = 1 << 26  # characters of all paths together
_SEARCHED = 2000  # objects looked at for tensors inside an unknown one

# nn.Module._version where it isn't 1: a class attribute, so the file doesn't say it (torch 2.13).
_VERSIONS_BY_MODULE = {"torch.nn.modules.batchnorm": 2, "torch.nn.modules.instancenorm": 2}
_OBSERVERS = ("MinMaxObserver", "MovingAverageMinMaxObserver", "PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver")
_VERSIONS = dict.fromkeys((*_OBSERVERS, "HistogramObserver", "UniformQuantizationObserverBase"), 3)
_VERSIONS |= dict.fromkeys(("BatchNorm2d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LSTM", "GRU"), 2)
_VERSIONS_IN_QAT = dict.fromkeys(("ConvBn1d", "ConvBn2d", "ConvBn3d", "ConvBnReLU1d", "ConvBnReLU2d", "ConvBnReLU3d"), 2)
_AO = ("torch.ao.", "torch.quantization.", "torch.nn.quantized.", "torch.nn.intrinsic.", "torch.nn.qat.")


Script = Mapping[str, tuple[tuple[str, ...], tuple[str, ...] | None]]  # TorchScript's parameters and buffers, by class


def is_module(value: Any) -> bool:
    """Whether a Stub has what every nn.Module has, or is a TorchScript module."""
    if not isinstance(value, Stub):
        return False
    return ("_modules" in value.attributes and "_parameters" in value.attributes) or is_script(value) or is_compiled(value)


def is_script(value: Any) -> bool:
    return isinstance(value, Stub) and isinstance(value.cls, Global) and value.cls.module.split(".")[0] == "__torch__"


def is_compiled(value: Stub) -> bool:
    """Whether a Stub is what torch.compile makes of a module: a call of OptimizedModule(module, context)."""
    return value.cls == _COMPILED and len(value.args) > 0 and isinstance(value.args[0], Stub)


_COMPILED = Global("torch._dynamo.eval_frame", "OptimizedModule")


def children(module: Stub) -> dict[str, Stub]:
    """A module's submodules by name, in order. Raises FormatError for a child that is no module."""
    if is_script(module):
        return {str(name): value for name, value in module.attributes.items() if is_script(value)}
    found = {"_orig_mod": module.args[0]} if is_compiled(module) and is_module(module.args[0]) else {}
    for name, child in _table(module, "_modules").items():
        if child is None:
            continue
        if not is_module(child):
            what = child.class_name if isinstance(child, Stub) else type(child).__name__
            raise UnsupportedError(
                f"'{printable(name)}' in {printable(module.class_name)} is a {printable(what)} that was pickled in a form of its own, "
                "which only its code can read"
            )
        found[_text(name)] = child
    return found


def _table(module: Stub, name: str) -> dict[Any, Any]:
    table = module.attributes.get(name, {})
    if not isinstance(table, dict):
        raise FormatError(f"{printable(module.class_name)}: {name} is a {type(table).__name__}, not a dictionary")
    return table


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise FormatError(f"a module's entry is named by a {type(name).__name__}, not by text")
    return str(name)


def own_tensors(module: Stub, script: Script | None = None) -> Iterator[tuple[str, Weight]]:
    """A module's own parameters, then its persistent buffers, by name."""
    if is_script(module):
        parameters, buffers = (script or {}).get(module.class_name, ((), None))
        weights = {str(name): weight for name, value in module.attributes.items() if (weight := as_weight(value)) is not None}
        yield from ((name, weight) for name, weight in weights.items() if name in parameters)
        yield from ((name, weight) for name, weight in weights.items() if name not in parameters and (buffers is None or name in buffers))
        return
    for name, value in _table(module, "_parameters").items():
        if value is not None:
            yield _text(name), _checked(module, name, value)
    skipped = module.attributes.get("_non_persistent_buffers_set", ())
    names = skipped.items if isinstance(skipped, Stub) else skipped
    if not isinstance(names, set | list | tuple):
        raise FormatError(f"{printable(module.class_name)}: _non_persistent_buffers_set is a {type(names).__name__}, not a set")
    transient = {str(name) for name in names if isinstance(name, str)}
    for name, value in _table(module, "_buffers").items():
        if value is not None and name not in transient:
            yield _text(name), _checked(module, name, value)
    for name in _OBSERVED.get(module.class_name, ()):  # in 1.3 plain attributes, which their classes saved too; buffers since
        value = module.attributes.get(name)
        if value is not None:
            yield name, _checked(module, name, value)


_RANGE = ("min_val", "max_val")
_OBSERVED = {
    "torch.quantization.fake_quantize.FakeQuantize": ("scale", "zero_point"),
    **{
        f"torch.quantization.observer.{kind}Observer": _RANGE for kind in ("MinMax", "MovingAverageMinMax", "Histogram", "PerChannelMinMax")
    },
}
"""What observers and fake quantizers of torch 1.3 keep beside their parameters and buffers."""


def _checked(module: Stub, name: Any, value: Any) -> Weight:
    weight = as_weight(value)
    if weight is None:
        what = value.class_name if isinstance(value, Stub) else type(value).__name__
        words = "was never initialized (a lazy module): the file has no weights for it"
        if "Uninitialized" not in what:
            words = f"is a {printable(what)}, which isn't a tensor"
        raise UnsupportedError(f"'{printable(name)}' of {printable(module.class_name)} {words}")
    return with_numbers(f"{module.class_name}.{name}", weight)


def with_numbers(name: str, weight: Weight) -> Weight:
    """The weight itself; raises UnsupportedError for a meta tensor, which has a shape and no numbers."""
    if isinstance(weight, RebuiltTensor) and weight.layout == "meta":
        raise UnsupportedError(f"'{printable(name)}' is a meta tensor: the file has its shape and no numbers")
    if isinstance(weight, ShardTensor) and weight.shape != weight.whole:
        raise UnsupportedError(f"'{printable(name)}' is {weight.words}", hint="give the folder with the files of all ranks")
    return weight


def module_state(root: Stub, script: Script | None = None) -> StateDict:
    """The state_dict of a module Stub.

    Plain tensors in `__dict__` are no keys, a shared module gives its keys once for each path. Raises FormatError for a module
    that contains itself, and UnsupportedError for classes whose weights only their own code can give.
    """
    state = StateDict()
    pending: list[tuple[Stub | None, str]] = [(root, "")]
    trail: list[int] = []
    open_modules: set[int] = set()
    custom: dict[str, None] = {}
    paths = 0
    while pending:
        module, prefix = pending.pop()
        if module is None:
            open_modules.discard(trail.pop())
            continue
        if id(module) in open_modules:
            raise FormatError(f"the module at '{printable(prefix[:-1])}' contains itself; its state_dict would never end")
        if len(trail) >= _DEPTH:
            raise FormatError(f"modules are nested more than {_DEPTH} deep; torch itself can't list such a model")
        trail.append(id(module))
        open_modules.add(id(module))
        pending.append((None, ""))
        paths += len(prefix)
        if len(state.metadata) >= _MODULES or paths > _PATHS:
            raise FormatError(f"more than {len(state.metadata)} paths lead through its modules: the file is broken or a bomb")
        _note_module(state, module, prefix[:-1], custom)
        for name, weight in own_tensors(module, script):
            state.tensors[prefix + name] = weight
            paths += len(prefix) + len(name)
        if len(state.tensors) > _KEYS:
            raise FormatError(f"it has more than {_KEYS} keys: the file is broken or a bomb")
        pending.extend((child, f"{prefix}{name}.") for name, child in reversed(children(module).items()))
    if custom:
        names = ", ".join(printable(name) for name in list(custom)[:10]) + (" ..." if len(custom) > 10 else "")
        state.unknown.append(f"whether these classes change their state_dict by code of their own: {names}")
    return state


def _note_module(state: StateDict, module: Stub, path: str, custom: dict[str, None]) -> None:
    name = module.class_name
    if name.startswith(_AO) and ("_packed_params" in module.attributes or name.endswith(("PackedParams", "PackedParameter"))):
        raise UnsupportedError(
            f"'{printable(path)}' ({printable(name)}) keeps its quantized weights in a packed form that only its own code unpacks; "
            "save its state_dict() with torch and give that"
        )
    state.classes[path] = name
    _note_spectral_dims(state, module, path)
    entry: dict[str, Any] = {"version": _version(module)}
    for hook in _table(module, "_state_dict_hooks").values():
        if not isinstance(hook, Stub) or hook.class_name != "torch.nn.utils.spectral_norm.SpectralNormStateDictHook":
            where = f" of '{printable(path)}'" if path else ""
            state.unknown.append(f"what a hook on the state_dict{where} would have changed")
        else:
            function = hook.attributes.get("fn")
            target = function.attributes.get("name") if isinstance(function, Stub) else None
            if isinstance(target, str):
                entry.setdefault("spectral_norm", {})[f"{target}.version"] = 1
    state.metadata[path] = entry
    if not name.startswith(("torch.", "__torch__.")):
        custom.setdefault(name)


def _note_spectral_dims(state: StateDict, module: Stub, path: str) -> None:
    """The axis that each of torch's old spectral_norm hooks works along, as the file has it."""
    hooks = module.attributes.get("_forward_pre_hooks")
    for hook in hooks.values() if isinstance(hooks, dict) else ():
        if isinstance(hook, Stub):
            target, dim = hook.attributes.get("name"), hook.attributes.get("dim")
            if isinstance(target, str) and isinstance(dim, int):
                state.spectral_dims[f"{path}.{target}" if path else target] = int(dim)


def _version(module: Stub) -> int:
    own = module.attributes.get("_version")
    if isinstance(own, int) and 0 <= own < 1 << 31:
        return own
    if isinstance(module.cls, Global):
        if module.cls.module.startswith(_AO):
            return (_VERSIONS_IN_QAT if ".qat." in module.cls.module else _VERSIONS).get(module.cls.name, 1)
        return _VERSIONS_BY_MODULE.get(module.cls.module, 1)
    return 1


# -- dictionaries


def mapping_state(mapping: Mapping[Any, Any], attributes: Mapping[str, Any] | None = None) -> StateDict:
    """A dictionary of tensors as weights: entries that aren't tensors are left out, and named. attributes: those of the dictionary itself.

    Raises UnsupportedError for an entry that holds numbers in a form only its own class can read.
    """
    state = StateDict()
    searched: set[int] = set()
    for key, value in mapping.items():
        name = key_text(key)
        weight = as_weight(value)
        if weight is not None:
            if name in state.tensors:
                raise FormatError(f"two keys are both written '{printable(name)}'")
            state.tensors[name] = with_numbers(name, weight)
        elif isinstance(value, Stub) and (value.cls in TENSOR_CLASSES or holds_tensors(value, searched)):
            raise UnsupportedError(f"'{printable(name)}' is a {printable(value.class_name)}, whose numbers only its own code can read")
        elif isinstance(value, Stub) and "Uninitialized" in value.class_name:
            raise UnsupportedError(f"'{printable(name)}' was never initialized (a lazy module): the file has no weights for it")
        elif name.endswith("_packed_params") and value is not None:
            raise UnsupportedError(f"'{printable(name)}' holds quantized weights in a packed form; only torch's own code can unpack them")
        else:
            what = value.class_name if isinstance(value, Stub) else type(value).__name__
            state.left_out.append(LeftOut(name, what))
            if name.endswith("_extra_state"):
                words = "is no tensor and is left out; load_state_dict will miss it unless strict=False"
                warn(f"'{printable(name)}' {words}")
    state.metadata = _metadata((attributes or {}).get("_metadata"))
    if strange := [key for key in mapping if not isinstance(key, str | int) or isinstance(key, bool)]:
        shown = ", ".join(printable(repr(key), 40) for key in strange[:4])
        words = f"{len(strange)} of its keys aren't text ({shown}); they are written as names"
        warn(words)
    return state


def key_text(key: Any) -> str:
    """A dictionary's key as text: as it is, or as Python writes it."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | float | None):
        return str(key)
    if isinstance(key, tuple) and len(key) < 16 and all(isinstance(part, str | int | float | None) for part in key):
        return repr(tuple(str(part) if isinstance(part, str) else part for part in key))
    raise ConversionError(f"an entry's key is a {type(key).__name__}; a name is needed to write it")


def _metadata(value: Any) -> dict[str, dict[str, Any]]:
    """state_dict._metadata as the file has it, its plain values alone."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for path, entry in value.items():
        if isinstance(path, str) and isinstance(entry, dict):
            found[str(path)] = _plain_entries(entry, 0)
    return found


def _plain_entries(entries: dict[Any, Any], depth: int) -> dict[str, Any]:
    plain = {str(name): _plain(item, depth) for name, item in entries.items() if isinstance(name, str)}
    return {name: item for name, item in plain.items() if item is not _NOT}


_NOT = object()


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else _NOT
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict) and depth < 4 and len(value) <= 1000:
        return _plain_entries(value, depth + 1)
    return _NOT


def holds_tensors(value: Any, seen: set[int]) -> bool:
    """Whether tensors or storages lie somewhere inside an unknown object (as far as a bounded look goes).

    seen: objects looked at before, and found without any.
    """
    pending = [value]
    seen.add(id(value))
    for _ in range(_SEARCHED):
        if not pending:
            return False
        item = pending.pop()
        if isinstance(item, TypedStorage) or as_weight(item) is not None:
            return True
        inside: list[Any] = []
        if isinstance(item, Stub):
            inside += [item.args, item.attributes, item.slots, item.state, item.items, item.entries, item.data]
        elif isinstance(item, dict):
            inside += list(item.values())[:_SEARCHED]
        elif isinstance(item, list | tuple):
            inside += item[:_SEARCHED]
        for part in inside:
            if part is not None and id(part) not in seen:
                seen.add(id(part))
                pending.append(part)
    return True
