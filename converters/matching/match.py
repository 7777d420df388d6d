"""match: the keys of a file's weights for a module of the user's own, and the state_dict that loads strictly into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.matching.fitting import Placed
from converters.matching.following import follow
from converters.matching.names import match_names
from converters.tensors.placing import KeyMap, how_made
from converters.tensors.tensor import as_tensors


@dataclass
class Match:
    """Which source key (or keys, where a value is made of several) each of the module's keys takes.

    proven: both were run on one input and gave the same outputs; without a graph nothing can be run. notes: what was done to values.
    """

    keys: dict[str, str | list[str]]
    proven: bool
    notes: list[str] = field(default_factory=list)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    _module: torch.nn.Module | None = field(default=None, repr=False)

    def apply(self) -> dict[str, torch.Tensor]:
        """The state_dict that loads strictly into the module, in its order and types; num_batches_tracked stays the module's own."""
        assert self._module is not None
        state: dict[str, torch.Tensor] = {}
        for name, own in self._module.state_dict().items():
            array = self._arrays.get(name)
            if array is not None:
                state[name] = torch.from_numpy(np.array(array)).to(own.dtype).reshape(own.shape)
            else:
                state[name] = own.clone() if isinstance(own, torch.Tensor) else own  # get_extra_state may say anything
        return state

    def key_map(self, weights: Mapping[str, Any]) -> KeyMap:
        """The map to write beside the weights, from which they can be placed again without the class. weights: the source's."""
        entries = {}
        for name, array in self._arrays.items():
            keys = self.keys.get(name, [])
            entries[name] = how_made(np.asarray(array), [keys] if isinstance(keys, str) else keys, weights)
        used = {key for entry in entries.values() for key in entry.sources}
        return KeyMap(entries, self.proven, [name for name in weights if name not in used])


def match(source: ir.Model | Mapping[str, Any], module: torch.nn.Module) -> Match:
    """Finds where each weight of a model belongs in a module of another naming, order or nesting.

    source: a graph, whose values are followed through both (proven), or weights alone, by names, order and shapes. The module is left as
    it is. Raises ConversionError, which names the first layer where the two part, or what is ambiguous.
    """
    placed: dict[str, Placed]
    notes: list[str] = []
    if isinstance(source, ir.Model):
        (placed, notes), proven = follow(source, module), True
    elif isinstance(source, Mapping):
        placed, proven = match_names(as_tensors(source), module), False
    else:
        raise ConversionError("match takes what load or load_weights answers")
    keys: dict[str, str | list[str]] = {}
    for name, found in placed.items():
        if found.keys:
            keys[name] = found.keys[0] if len(found.keys) == 1 else list(found.keys)
        if found.note:
            notes.append(f"{name}: {found.note}")
    return Match(keys, proven, notes, {name: found.array for name, found in placed.items()}, module)
