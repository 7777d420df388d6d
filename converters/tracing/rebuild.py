"""Modules from a checkpoint's Stubs: classes of torch.nn on a closed list, by name; any other class only where its code is trusted.

A class's constructor doesn't run. The module gets what the file says of it (plain values, tensors, submodules), then torch's own
`__setstate__` brings old attributes up to date, and what the file is too old to have comes from a new instance of the class.
"""

from __future__ import annotations

import importlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ConversionError, FormatError, UnsupportedError, printable
from converters.readers.pytorch.modules import children, is_module
from converters.readers.pytorch.pickles.stubs import Global, Items, Stub
from converters.readers.pytorch.storages import as_weight
from converters.tensors.state_dict import WRAPPERS
from converters.tensors.tensor import RebuiltTensor, Tensor, TorchName
from converters.tracing.old import LAYERS, class_of, complete, modernise
from converters.trust import Code

if TYPE_CHECKING:
    import torch

_HOOKS = frozenset({"_forward_hooks", "_forward_pre_hooks"})
"""Hooks that change what a module computes; those of training and of state_dicts are left out."""
_OTHER_HOOKS = frozenset(
    "_backward_hooks _backward_pre_hooks _forward_hooks_with_kwargs _forward_hooks_always_called _forward_pre_hooks_with_kwargs "
    "_state_dict_hooks _state_dict_pre_hooks _load_state_dict_pre_hooks _load_state_dict_post_hooks".split()
)
_NORMS = {
    "torch.nn.utils.spectral_norm.SpectralNorm": "remove_spectral_norm",
    "torch.nn.utils.weight_norm.WeightNorm": "remove_weight_norm",
}
"""Hooks of torch's own that compute a weight before each run, and what puts the weight in their place."""
_PRUNE = "torch.nn.utils.prune"
_PRUNING = "RandomUnstructured L1Unstructured RandomStructured LnStructured CustomFromMask Identity PruningContainer".split()
"""Hooks of torch.nn.utils.prune, which all do the same before a run: a mask times a weight."""
_TABLES = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})
_SKIPPED = frozenset(
    {"_backend", "_is_full_backward_hook", "_flat_weights", "_flat_weight_refs", "_data_ptrs", "_param_buf_size", "_compiled_call_impl"}
)
_HARMLESS_FUNCTIONS = {
    f"torch.nn.functional.{name}" for name in ("relu", "gelu", "silu", "elu", "leaky_relu", "tanh", "sigmoid", "softmax", "log_softmax")
}
_PLAIN = (bool, int, float, str, type(None))
_PYTHON_2 = {"xrange": "range", "unicode": "str", "long": "int", "basestring": "str"}
"""What Python 2, and pickle's protocols up to 2, call builtins."""
_DEPTH = 12


def is_listed(cls: Any) -> bool:
    """Whether a class is on the closed list of torch.nn's."""
    return isinstance(cls, Global) and (cls.module == "torch.nn" or cls.module.startswith("torch.nn.modules.")) and cls.name in LAYERS


def is_wrapper(cls: Any) -> bool:
    return isinstance(cls, Global) and cls.module.startswith("torch.nn.parallel") and cls.name in WRAPPERS


def own_classes(root: Stub) -> list[str]:
    """Classes of the model's own, that no list of torch.nn has."""
    return sorted({stub.class_name for stub in _all_modules(root) if not is_listed(stub.cls) and not is_wrapper(stub.cls)})


def _all_modules(root: Stub) -> list[Stub]:
    """Every module once, parents before children."""
    seen: dict[int, Stub] = {}
    waiting = [root]
    while waiting:
        stub = waiting.pop()
        if id(stub) not in seen:
            seen[id(stub)] = stub
            waiting.extend(children(stub).values())
    return list(seen.values())


def rebuild(root: Stub, code: Code | None = None) -> torch.nn.Module:
    """The module that a Stub stands for, in eval mode.

    code: where the model's own classes come from; without it only classes of torch.nn are made. Raises UnsupportedError that
    names all others, and ConversionError for what a file can't say of them.
    """
    if not is_module(root):
        raise ConversionError(f"a {printable(root.class_name)} is no module")
    unknown = own_classes(root)
    if unknown and code is None:
        raise UnsupportedError(f"the model is made of classes of its own: {', '.join(map(printable, unknown[:20]))}")
    try:
        return _Builder(code).build(root).eval()
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as problem:  # attributes can be anything at all
        raise ConversionError(f"the model can't be rebuilt: {type(problem).__name__}: {printable(problem, 300)}") from problem


class _Builder:
    def __init__(self, code: Code | None) -> None:
        self._code = code
        self._modules: dict[int, Any] = {}
        self._tensors: dict[int, Any] = {}
        self._objects: dict[int, Any] = {}

    def build(self, root: Stub) -> torch.nn.Module:
        import torch

        order = _all_modules(root)
        for stub in order:  # empty shells first, so that a module may be in several places
            if is_wrapper(stub.cls):
                continue
            cls = self._class(stub)
            module = cls.__new__(cls)
            torch.nn.Module.__init__(module)
            self._modules[id(stub)] = module
        for stub in reversed(order):
            if id(stub) in self._modules:
                self._fill(self._modules[id(stub)], stub)
        made: torch.nn.Module = self._modules[id(self._inner(root))]
        made.eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in made.modules():
                self._settle_norms(module)
        return made

    def _class(self, stub: Stub) -> Any:
        import torch

        if is_listed(stub.cls):
            found = class_of(stub.cls.name, stub.attributes)
            if found is None:
                raise UnsupportedError(f"torch {torch.__version__} has no torch.nn.{stub.cls.name}")
            return found
        if self._code is None or not isinstance(stub.cls, Global):
            raise UnsupportedError(f"{printable(stub.class_name)} was pickled in a form of its own, which isn't rebuilt")
        return self._code.module_class(stub.cls.module, stub.cls.name)

    def _inner(self, stub: Stub) -> Stub:
        """What a DataParallel wraps."""
        for _ in range(_DEPTH):
            if not is_wrapper(stub.cls):
                return stub
            inside = children(stub)
            stub = inside.get("module") or next(iter(inside.values()))
        raise ConversionError("wrappers around wrappers, without end")

    def _fill(self, module: torch.nn.Module, stub: Stub) -> None:
        import torch

        state = dict(module.__dict__)
        for name, value in stub.attributes.items():
            if not isinstance(name, str):
                raise ConversionError(f"{printable(stub.class_name)} has an attribute that is named by a {type(name).__name__}")
            if name in _HOOKS:
                state[name] = OrderedDict((number, self._hook(hook, stub)) for number, hook in _entries(stub, name).items())
                continue
            if name in _TABLES or name in _SKIPPED or name in _OTHER_HOOKS:
                continue
            state[name] = self._value(value, f"{stub.class_name}.{name}", 0)
        state["_parameters"] = {
            str(name): None if value is None else torch.nn.Parameter(self._tensor(value), requires_grad=False)
            for name, value in _entries(stub, "_parameters").items()
        }
        state["_buffers"] = {
            str(name): None if value is None else self._tensor(value) for name, value in _entries(stub, "_buffers").items()
        }
        transient = stub.attributes.get("_non_persistent_buffers_set")
        unsaved = transient.items if isinstance(transient, Stub) else transient
        state["_non_persistent_buffers_set"] = {str(name) for name in unsaved or ()}
        inside = children(stub)
        state["_modules"] = {
            str(name): None if child is None else self._modules[id(self._inner(inside[str(name)]))]
            for name, child in _entries(stub, "_modules").items()
        }
        if is_listed(stub.cls):
            modernise(state, stub.cls.name, stub.attributes)
        names = state.get("_flat_weights_names")
        if isinstance(module, torch.nn.RNNBase) and names is None:  # up to 1.3 it was worked out anew
            names = state["_flat_weights_names"] = [name for layer in state.get("_all_weights", ()) for name in layer]
        if isinstance(module, torch.nn.RNNBase) and isinstance(names, list):
            state["_flat_weights"] = [state["_parameters"].get(name) for name in names]
        try:
            module.__setstate__(state)  # type: ignore[no-untyped-call]
        except Exception as problem:
            raise ConversionError(
                f"{printable(stub.class_name)} doesn't take what the file says of it: {type(problem).__name__}: {printable(problem, 200)}"
            ) from problem
        if is_listed(stub.cls):
            complete(module, stub.cls.name, stub.attributes)

    def _hook(self, hook: Any, stub: Stub) -> Any:
        """spectral_norm's, weight_norm's and prune's hooks; any other only where its code is trusted."""
        if isinstance(hook, Stub) and hook.class_name in _NORMS and isinstance(hook.cls, Global):
            cls = getattr(importlib.import_module(hook.cls.module), hook.cls.name)  # a module of torch's own
            made = cls.__new__(cls)
            made.__dict__.update({str(k): self._value(v, f"{hook.class_name}.{k}", 0) for k, v in hook.attributes.items()})
            return made
        if isinstance(hook, Stub) and isinstance(hook.cls, Global) and hook.cls.module == _PRUNE and hook.cls.name in _PRUNING:
            mask = importlib.import_module(_PRUNE).Identity()
            mask._tensor_name = self._value(hook.attributes.get("_tensor_name"), f"{hook.class_name}._tensor_name", 0)
            return mask
        if self._code is None:
            what = hook.class_name if isinstance(hook, Stub) else type(hook).__name__
            raise UnsupportedError(
                f"{printable(stub.class_name)} has a hook of its own ({printable(what)}), whose code would run; "
                "remove it before saving, or give the code: --code DIR --trust"
            )
        return self._value(hook, f"{stub.class_name}'s hook", 0)

    def _settle_norms(self, module: torch.nn.Module) -> None:
        """Puts the weights that spectral_norm, weight_norm and masks compute in place of what they compute them from."""
        import torch

        for hook in list(module._forward_pre_hooks.values()):
            is_mask = type(hook).__module__ == _PRUNE
            remove = "remove" if is_mask else _NORMS.get(f"{type(hook).__module__}.{type(hook).__qualname__}")
            if remove is None:
                continue
            try:
                place: Any = importlib.import_module(_PRUNE) if is_mask else torch.nn.utils
                getattr(place, remove)(module, hook._tensor_name if is_mask else hook.name)  # type: ignore[attr-defined]
            except Exception as problem:
                raise ConversionError(
                    f"{type(module).__name__}: {remove} fails: {type(problem).__name__}: {printable(problem, 200)}"
                ) from problem

    def _tensor(self, value: Any) -> Any:
        if id(value) not in self._tensors:
            weight = as_weight(value)
            if weight is None or isinstance(weight, RebuiltTensor):
                raise UnsupportedError("a parameter is no plain tensor (it is quantized, sparse or nested)")
            self._tensors[id(value)] = (value, to_torch(weight))
        return self._tensors[id(value)][1]

    def _value(self, value: Any, what: str, depth: int) -> Any:
        """An attribute: plain values and containers of them; tensors; with trusted code also its objects and functions."""
        if (isinstance(value, _PLAIN) and not isinstance(value, str)) or type(value) is str:
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, bytes | complex):
            return value
        if depth > _DEPTH:
            raise UnsupportedError(f"{printable(what)} is nested too deeply")
        if isinstance(value, Tensor | RebuiltTensor):
            return self._tensor(value)
        if isinstance(value, Stub) and id(value) in self._modules:
            return self._modules[id(value)]
        if isinstance(value, dict):
            made = {self._value(k, what, depth + 1): self._value(v, what, depth + 1) for k, v in value.items()}
            return OrderedDict(made) if isinstance(value, Items) else made
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self._value(v, what, depth + 1) for v in value)
        if isinstance(value, TorchName) and value.name == "Size" and value.arguments:
            return tuple(value.arguments[0])
        if isinstance(value, Global):
            return self._function(value, what)
        if isinstance(value, Stub):
            if value.class_name == "torch.Size":
                return tuple(self._value(part, what, depth + 1) for part in (value.args[0] if value.args else ()))
            if as_weight(value) is not None:
                tensor = self._tensor(value)
                return tensor.numpy() if value.class_name.startswith("numpy.") else tensor
            return self._object(value, what, depth)
        if isinstance(value, TorchName):
            return _torch_constant(value, what)
        raise UnsupportedError(f"{printable(what)} is a {type(value).__name__}, which isn't rebuilt")

    def _function(self, value: Global, what: str) -> Any:
        import torch

        if str(value) in _HARMLESS_FUNCTIONS or str(value) == "torch._C._nn.gelu":
            return getattr(torch.nn.functional, value.name)
        if self._code is None:
            raise UnsupportedError(f"{printable(what)} is {printable(value)}, which isn't a plain value")
        return self._code.named(value.module, value.name)

    def _object(self, stub: Stub, what: str, depth: int) -> Any:
        if self._code is None or not isinstance(stub.cls, Global):
            raise UnsupportedError(f"{printable(what)} is a {printable(stub.class_name)}, which isn't a plain value")
        if id(stub) in self._objects:
            return self._objects[id(stub)]
        cls = self._code.named(stub.cls.module, _PYTHON_2.get(stub.cls.name, stub.cls.name))
        given = [self._value(a, what, depth + 1) for a in stub.args]
        named = {k: self._value(v, what, depth + 1) for k, v in (stub.kwargs or {}).items()}
        try:
            made = self._code.make(cls, given, named)
            self._objects[id(stub)] = made
            self._give_state(made, stub, what, depth + 1)
            self._code.check(made)
        except ConversionError:
            raise
        except Exception as problem:
            raise ConversionError(f"{printable(what)}: {printable(stub.class_name)}: {printable(problem, 200)}") from problem
        for item in stub.items or ():
            made.append(self._value(item, what, depth + 1))
        for k, v in (stub.entries or {}).items():
            made[self._value(k, what, depth + 1)] = self._value(v, what, depth + 1)
        return made

    def _give_state(self, made: Any, stub: Stub, what: str, depth: int) -> None:
        """The object's state as pickle gives it back: to its own __setstate__, else into its dictionary and slots."""
        attributes = {k: self._value(v, what, depth) for k, v in stub.attributes.items()}
        slots = {k: self._value(v, what, depth) for k, v in (stub.slots or {}).items()}
        own: Callable[[Any], None] | None = getattr(made, "__setstate__", None)
        if stub.state is not None:
            if own is None:
                raise ConversionError(f"{printable(what)}: {printable(stub.class_name)} has no __setstate__ for the state in the file")
            own(self._value(stub.state, what, depth))
        elif own is not None and (attributes or slots):
            own((attributes or None, slots) if slots else attributes)
        else:
            if attributes:
                made.__dict__.update(attributes)
            for name, value in slots.items():
                setattr(made, name, value)


def _entries(stub: Stub, name: str) -> dict[Any, Any]:
    """A module's table of parameters, buffers, children or hooks."""
    table = stub.attributes.get(name)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise FormatError(f"{printable(stub.class_name)}: {name} is a {type(table).__name__}, not a dictionary")
    return table


def _torch_constant(value: TorchName, what: str) -> Any:
    """torch.float32, torch.device("cpu") and the like, which attributes of modules hold."""
    import torch

    found = getattr(torch, value.name, None)
    if isinstance(found, torch.dtype):
        return found
    if value.name == "device":
        return torch.device("cpu")
    raise UnsupportedError(f"{printable(what)} is {printable(value.name)}, which isn't a plain value")


def to_torch(weight: Tensor) -> torch.Tensor:
    """A torch tensor of its own memory, with the file's strides."""
    import torch

    array = weight.numpy()
    dtype = getattr(torch, weight.torch_dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = np.ascontiguousarray(array).reshape(array.shape)
        try:
            return torch.from_numpy(raw.copy())
        except TypeError:  # bfloat16 and the float8 types
            return torch.from_numpy(raw.view(f"i{raw.dtype.itemsize}").copy()).view(dtype)
