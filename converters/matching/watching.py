"""Sees every operation of a user's class in which weights meet the numbers that flow through it, wherever in the class that is.

What torch itself runs is watched, below its Python functions: views of a weight share its memory, and what is computed of weights alone (a
normalized weight) is kept with how it was made, so that it can be made again once the weights are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from converters.matching.fitting import tensors_in

Roles = Mapping[str, torch.Tensor]
_PLACES: dict[str, dict[int, str]] = {
    "convolution": {1: "weight", 2: "bias"},
    "addmm": {0: "bias", 2: "weight"},
    "mm": {1: "weight"},
    "bmm": {1: "weight"},
    "embedding": {0: "weight"},
    "native_layer_norm": {2: "weight", 3: "bias"},
    "native_group_norm": {1: "weight", 2: "bias"},
    "native_batch_norm": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "_native_batch_norm_legit_no_training": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "mul": {0: "weight", 1: "weight"},
    "add": {0: "bias", 1: "bias"},
    "_prelu_kernel": {1: "weight"},
}
"""Which argument of an operation is what."""
_FROM_RIGHT = frozenset({"addmm", "mm", "bmm"})


@dataclass
class Use:
    """An operation that a weight meets a value in. given: the value; roles: the weights or views of them, as they would be in torch's own
    layer; made: weights that the operation takes something computed of; names: of all of these."""

    operation: str
    given: torch.Tensor
    roles: dict[str, torch.Tensor]
    made: tuple[str, ...]
    names: tuple[str, ...]


@dataclass
class _Made:
    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    answer: torch.Tensor
    names: frozenset[str]


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """weights: by name; several may share their memory. meets is called before an operation; after, where that says so, behind it."""

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        inputs: Sequence[torch.Tensor],
        meets: Callable[[Use], bool],
        after: Callable[[torch.Tensor], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[int, list[str]] = {}
        for name, tensor in weights.items():
            self.names.setdefault(_place(tensor), []).append(name)
        self.names.pop(0, None)
        self._live = {_place(tensor) for tensor in inputs} - {0}
        self._made: dict[int, _Made] = {}
        self._meets, self._after = meets, after
        self.computed: frozenset[str] = frozenset()  # weights of which something is computed before they meet a value
        self.decides = False  # whether a number that flows through is asked for by the class

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to be told so, torch would import its compiler, which takes more than a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [(place, tensor) for place, value in enumerate((*args, *kwargs.values())) for tensor in tensors_in(value)]
        live = [tensor for _, tensor in given if _place(tensor) in self._live]
        self.decides |= bool(live) and func.overloadpacket.__name__ == "_local_scalar_dense"
        held = [(place, tensor) for place, tensor in given if _place(tensor) in self.names or _place(tensor) in self._made]
        is_bound = bool(held and live) and self._meets(self._use(func, live[0], held))
        answer = func(*args, **kwargs)
        for tensor in tensors_in(answer):
            place = _place(tensor)
            if not place or (place in self.names and not live):
                continue
            self._made.pop(place, None)
            if live:
                self._live.add(place)
                continue
            self._live.discard(place)
            if held:
                names = frozenset(name for _, part in held for name in self.names_of(part))
                self._made[place] = _Made(func, args, kwargs, tensor, names)
                self.computed |= names
        if is_bound:
            self._after(next(iter(tensors_in(answer))))
        return answer

    def unwatched(self, function: Callable[..., None]) -> Callable[..., None]:
        """A hook whose own operations aren't seen: comparing takes many."""

        def called(*arguments: Any) -> None:
            with _disable_current_modes():
                function(*arguments)

        return called

    def names_of(self, tensor: torch.Tensor) -> list[str]:
        """The weights that a tensor is, or is made of."""
        place = _place(tensor)
        made = self._made.get(place)
        return sorted(made.names) if made is not None else self.names.get(place, [])

    def remake(self, names: Sequence[str]) -> None:
        """Computes again what was computed of these weights, which have other numbers now."""
        for made in list(self._made.values()):
            if made.names & set(names):
                again = made.function(*made.arguments, **made.options)
                if isinstance(again, torch.Tensor) and again.data_ptr() != made.answer.data_ptr():
                    made.answer.copy_(again)

    def _use(self, func: Any, given: torch.Tensor, held: Sequence[tuple[int, torch.Tensor]]) -> Use:
        operation = str(func.overloadpacket.__name__)
        places = _PLACES.get(operation, {})
        roles: dict[str, torch.Tensor] = {}
        made: list[str] = []
        for place, tensor in held:
            if _place(tensor) in self._made:
                made += self.names_of(tensor)
                continue
            role = places.get(place, "") or self.names_of(tensor)[0].rpartition(".")[2]
            single = _once(tensor)
            roles[role] = single.mT if role == "weight" and operation in _FROM_RIGHT and single.ndim == 2 else single
        return Use(operation, given, roles, tuple(made), tuple(name for _, tensor in held for name in self.names_of(tensor)))


def _place(tensor: torch.Tensor) -> int:
    """Where a tensor's numbers are in memory; views of one tensor are at one place."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _once(tensor: torch.Tensor) -> torch.Tensor:
    """A view without what is repeated: each number is written once."""
    if 0 not in tensor.stride():
        return tensor
    return tensor[tuple(slice(0, 1) if step == 0 else slice(None) for step in tensor.stride())]
