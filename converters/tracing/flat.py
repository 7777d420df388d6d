"""A module as torch.export likes it: plain tensors in, a tuple of plain tensors out, weights under names that are words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from converters.tracing.arguments import Argument, Signature, flat


class Flat(torch.nn.Module):
    """forward(*tensors) calls the module's own with each tensor where its name says; `names`: what the weights are really called.

    Weights whose names are no words (`blocks.layer-1.weight`), which torch.export can't write, are held here under numbers.
    """

    def __init__(self, module: torch.nn.Module, signature: Signature, arguments: Sequence[Argument]) -> None:
        super().__init__()
        self._signature, self._arguments = signature, arguments
        named = dict([*module.named_parameters(), *module.named_buffers()])
        first = {id(value): name for name, value in reversed(named.items())}
        all_named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        self._is_numbered = not all(part.isidentifier() or part.isdecimal() for name in named for part in name.split("."))
        self.names = {f"inner.{name}": first[id(value)] for name, value in all_named}
        if not self._is_numbered:
            self.inner = module
            return
        self._hidden = (module,)  # in a tuple it is no submodule
        self.names = {f"weight{number}": name for number, name in enumerate(named)}
        for short, name in self.names.items():
            value = named[name]
            if isinstance(value, torch.nn.Parameter):
                self.register_parameter(short, value)
            else:
                self.register_buffer(short, value)

    def name_of(self, name: str) -> str:
        """What an initializer of the program is called in the module."""
        return self.names.get(name, name)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        call: Any = self.inner if not self._is_numbered else self._called
        answer = self._signature.call(call, self._arguments, tensors)
        return tuple(value for _, value in flat(answer) if isinstance(value, torch.Tensor))

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        weights = {name: getattr(self, short) for short, name in self.names.items()}
        return torch.func.functional_call(self._hidden[0], weights, args, kwargs)
