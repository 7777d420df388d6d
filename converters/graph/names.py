"""Names of a source as Python identifiers."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

# Attributes that a submodule of a generated class must not shadow: those of nn.Module, in any torch since 1.13. They are listed, so that
# torch isn't imported; tests/graph/test_names.py compares the list with the torch that is installed.
_RESERVED = frozenset(
    "_apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks _forward_hooks_always_called "
    "_forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name "
    "_is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks "
    "_maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters "
    "_register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward "
    "_state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl "
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia "
    "named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory "
    "state_dict to to_empty train training type xpu zero_grad self torch nn F math build".split()
) | frozenset(dir(builtins))
# Modules that a file of the same name, in the folder that Python looks in first, would hide from torch: Python's and those torch needs.
_MODULES = frozenset(name.lower() for name in sys.stdlib_module_names) | frozenset(
    "converters cuda expecttest filelock fsspec functorch jinja2 markupsafe ml_dtypes mpmath networkx numpy nvidia onnx onnx_ir "
    "onnxruntime onnxscript opt_einsum packaging pkg_resources psutil pytest scipy setuptools sympy torch torchgen torchvision triton "
    "typing_extensions yaml".split()
)
_METHODS = frozenset({"compile", "eval", "float", "type"})  # builtins that nn.Module has too


def identifier(name: str) -> str:
    """A Python identifier as near to the name as possible: `conv1/3x3` -> `conv1_3x3`, `3a` -> `_3a`, `class` -> `class_`."""
    mended = re.sub(r"[^0-9A-Za-z_]", "_", name) or "unnamed"
    if mended[0].isdigit():
        mended = "_" + mended
    if mended.startswith("__"):
        mended = "m" + mended
    if keyword.iskeyword(mended) or keyword.issoftkeyword(mended) or mended in _RESERVED:
        mended += "_"
    return mended


def is_name(part: str) -> bool:
    """Whether a part of a state_dict's key can be an attribute of a module that shadows nothing: `conv1`, and builtins such as `max`."""
    if not part.isascii() or not part.isidentifier():
        return False
    return identifier(part) == part or (
        hasattr(builtins, part) and part not in _METHODS and not keyword.iskeyword(part) and part[:2] != "__"
    )


def module_name(stem: str) -> str:
    """A file's name without its suffix as that of a Python module that can be imported and hides no other.

    >>> module_name("resnet-50.v2"), module_name("torch"), module_name("3d"), module_name("lenet")
    ('resnet_50_v2', 'torch_', '_3d', 'lenet')
    """
    name = stem if stem.isidentifier() else re.sub(r"\W", "_", stem)
    if not name.isidentifier():
        name = f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name.lower() in _MODULES else name


def keys_beside(path: Path) -> Path:
    """The file beside a .pth made of blocks that says which key was which."""
    return path.with_suffix(".keys.json")


def mend_names(originals: Iterable[str]) -> dict[str, str]:
    """Original names -> unique identifiers, stable for a given list: names that need no mending keep theirs, others get a suffix.

    >>> mend_names(["a/b", "a_b", "a-b"])
    {'a/b': 'a_b_1', 'a_b': 'a_b', 'a-b': 'a_b_2'}
    """
    names = list(dict.fromkeys(originals))
    taken = {name for name in names if identifier(name) == name}
    counts: Counter[str] = Counter()
    result = {}
    for name in names:
        mended = identifier(name)
        if mended != name:
            base = mended
            while mended in taken:
                counts[base] += 1
                mended = f"{base}_{counts[base]}"
            taken.add(mended)
        result[name] = mended
    return result


def paths_above(path: str) -> list[str]:
    """The paths above one, the outermost first: `4.0.1` is in the model itself, `4` and `4.0`.

    >>> paths_above("4.0.1")
    ['', '4', '4.0']
    """
    return ["", *(path[:at] for at in range(len(path)) if path[at] == ".")] if path else []


class Paths:
    """Which paths of a tree of modules are taken, by keys such as `conv1.weight` or by modules.

    >>> paths = Paths(["block.conv.weight", "fc"])
    >>> [paths.is_free(path) for path in ("block", "block.conv", "block.conv.weight.x", "fc", "fc.bias", "block.bn")]
    [False, False, False, False, False, True]
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._ends: Counter[str] = Counter()
        self._above: Counter[str] = Counter()
        for path in paths:
            self.add(path)

    def add(self, path: str, count: int = 1) -> None:
        """Takes a path; -1: gives it back."""
        self._ends[path] += count
        for above in paths_above(path):
            self._above[above] += count

    def has(self, path: str) -> bool:
        """Whether something is at a path or below it."""
        return self._ends[path] > 0 or self._above[path] > 0

    def is_free(self, path: str) -> bool:
        """Whether nothing is at a path, below it, or at a path above it."""
        return not self.has(path) and not any(self._ends[above] for above in paths_above(path) if above)


class Names:
    """Names that are taken, and the next free one of a base.

    >>> names = Names({"conv1"})
    >>> names.free("conv1"), names.free("conv1"), names.free("pool1")
    ('conv1_1', 'conv1_2', 'pool1')
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._taken

    def add(self, name: str) -> None:
        """Takes a name as it is."""
        self._taken.add(name)

    def free(self, name: str) -> str:
        """The name, or with the first number behind it that makes it new; it is taken from now on. The next search goes on from there."""
        free, count = name, self._counts.get(name, 0)
        while free in self._taken:
            count += 1
            free = f"{name}_{count}"
        self._counts[name] = count
        self._taken.add(free)
        return free
