"""Names of a source as Python identifiers."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

# Attributes that a submodule of a generated class must not shadow: those of nn.Module (listed, so that torch isn't imported).
_RESERVED = frozenset(
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval "
    "extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia "
    "named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory "
    "state_dict to to_empty train training type xpu zero_grad self torch nn F math build".split()
) | frozenset(dir(builtins))


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


def mend_names(originals: Iterable[str]) -> dict[str, str]:
    """Original names -> unique identifiers, stable for a given list: names that need no mending keep theirs, others get a suffix.

    >>> mend_names(["a/b", "a_b", "a-b"])
    {'a/b': 'a_b_1', 'a_b': 'a_b', 'a-b': 'a_b_2'}
    """
    names = list(dict.fromkeys(originals))
    taken = {name for name in names if identifier(name) == name}
    result = {}
    for name in names:
        mended = identifier(name)
        if mended != name:
            base, count = mended, 0
            while mended in taken:
                count += 1
                mended = f"{base}_{count}"
            taken.add(mended)
        result[name] = mended
    return result
