"""Torch tensors while a net is walked: what they hold now, and who else sees it when one is overwritten.

nn modules with `inplace` write into the storage of their input. A branch that reads the same tensor later, and every view of the
storage (nn.View, nn.SplitTable ...), then sees the new values. A Reference is one such tensor object: it has a value of the graph, or
is a view of another Reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import onnx_ir as ir

Item = TypeVar("Item")
Result = TypeVar("Result")
Nested: TypeAlias = Item | Sequence["Nested[Item]"]
"""One item, or a Lua table of them: a list whose entries may be tables again."""

Forward = Callable[[ir.Value], ir.Value]
"""The view's value from its base's."""
Backward = Callable[[ir.Value, ir.Value], ir.Value]
"""The base's value, from its value before and the new value of the view."""


class _Later:
    """A value that is made when somebody asks for it: most bases of overwritten views are never read again."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], ir.Value]) -> None:
        self._make: Callable[[], ir.Value] | None = make
        self._value: ir.Value | None = None

    def get(self) -> ir.Value:
        if self._make is not None:
            self._value, self._make = self._make(), None
        assert self._value is not None
        return self._value


def _whole(base: ir.Value) -> ir.Value:
    return base


def _instead(base: ir.Value, new: ir.Value) -> ir.Value:
    return new


class Reference:
    """A tensor object: `get` answers its value now, `set` overwrites its storage, `view` makes another object over it."""

    __slots__ = ("_backward", "_base", "_forward", "_seen", "_value", "_version", "contiguous", "owner", "replicated")

    def __init__(self, value: ir.Value) -> None:
        self.owner: int | None = None
        """Which module's `output` it is: the id of its object, 0 for no module's; None until that is known."""
        self.contiguous = True
        """Whether its elements lie in row-major order: modules that reshape copy others."""
        self.replicated = False
        """Whether one element of the storage shows in several places."""
        self._value: ir.Value | _Later = value
        self._version = 0
        self._base: Reference | None = None
        self._forward: Forward | None = None
        self._backward: Backward | None = None
        self._seen = 0

    def view(self, forward: Forward, backward: Backward, *, contiguous: bool = True, replicated: bool = False) -> Reference:
        """Another tensor over the same storage."""
        made = Reference(forward(self.get()))
        made.contiguous = self.contiguous and contiguous
        made.replicated = self.replicated or replicated
        made._base, made._forward, made._backward = self, forward, backward
        made._seen = self.version
        return made

    def alias(self) -> Reference:
        """Another tensor object that is the same view, as torch's `output:set(input)` makes it."""
        if self._base is None:
            return self.view(_whole, _instead)
        made = Reference(self.get())
        made.repoint(self)
        return made

    @property
    def version(self) -> int:
        """Grows whenever the storage is overwritten."""
        root = self
        while root._base is not None:
            root = root._base
        return root._version

    @property
    def is_view(self) -> bool:
        return self._base is not None

    def sees(self, other: Reference) -> bool:
        """Whether `other` is this tensor or one that it is a view of."""
        tensor: Reference | None = self
        while tensor is not None and tensor is not other:
            tensor = tensor._base
        return tensor is other

    def get(self) -> ir.Value:
        value = self._now()
        return value.get() if isinstance(value, _Later) else value

    def _now(self) -> ir.Value | _Later:
        if self._base is not None and self._seen != (version := self._base.version):
            base, forward = self._base._now(), self._forward
            assert forward is not None
            self._value = _Later(lambda: forward(base.get() if isinstance(base, _Later) else base))
            self._seen = version
        return self._value

    def set(self, value: ir.Value) -> None:
        """Overwrites the elements, for this tensor and all that share its storage."""
        self._set(value)

    def _set(self, value: ir.Value | _Later) -> None:
        if self._base is None:
            self._value = value
            self._version += 1
            return
        before, backward = self._base._now(), self._backward
        assert backward is not None
        if backward is _instead:  # nothing of the base is left
            self._base._set(value)
            self._value, self._seen = value, self._base.version
            return

        def make() -> ir.Value:
            old = before.get() if isinstance(before, _Later) else before
            return backward(old, value.get() if isinstance(value, _Later) else value)

        self._base._set(_Later(make))
        self._value = value
        self._seen = self._base.version

    def repoint(self, other: Reference) -> None:
        """Becomes the same view as another tensor, as torch's `set` does; its former storage stays as it is."""
        self._value, self._version = other._value, other._version
        self._base, self._forward, self._backward, self._seen = other._base, other._forward, other._backward, other._seen
        self.contiguous, self.replicated = other.contiguous, other.replicated


Values: TypeAlias = Nested[ir.Value]
"""A value of the graph, or a table of them."""
Tensors: TypeAlias = Nested[Reference]
"""A tensor, or a table of them."""


def mapped(x: Tensors, function: Callable[[Reference], Result]) -> Nested[Result]:
    """The table with function(tensor) in place of each tensor; a table that is in several places is made once."""
    if isinstance(x, Reference):
        return function(x)
    made: dict[int, list[Nested[Result]]] = {id(x): []}
    waiting = [x]
    while waiting:
        table = waiting.pop()
        items = made[id(table)]
        for item in table:
            if isinstance(item, Reference):
                items.append(function(item))
                continue
            if id(item) not in made:
                made[id(item)] = []
                waiting.append(item)
            items.append(made[id(item)])
    return made[id(x)]


def first_tensor(x: Tensors) -> Reference:
    """The first tensor of the first entry of the first entry ..., as rnn's recursiveGetFirst finds it."""
    while not isinstance(x, Reference):
        x = x[0]
    return x


def values(x: Tensors) -> Values:
    """The table with the values that its tensors hold now."""
    return mapped(x, Reference.get)


def leaves(x: Tensors) -> Iterator[Reference]:
    """The tensors of a nest, those of a table that is in several places once."""
    waiting, seen = [x], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Reference):
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            waiting += item


def references(x: Values) -> Tensors:
    """The table of new tensors that hold these values."""
    return Reference(x) if isinstance(x, ir.Value) else [references(item) for item in x]
