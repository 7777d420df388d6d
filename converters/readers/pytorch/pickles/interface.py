"""What the handlers of opcodes and calls may ask of the machine that runs them, and the bound on what a file may build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from converters.errors import FormatError
from converters.readers.pytorch.pickles.stubs import Global

# Objects that a file may build (large kinds count more; each takes about 64 bytes): any of a few megabytes, and as many as honest
# files have for their size, so that a dictionary of two million words is read and a small bomb ends soon.
_COST_LEAST, _COST_MOST, _COST_BYTES = 4_000_000, 24_000_000, 3


class Budget:
    """How much may still be built, over all pickles of a file of so many bytes; and what they asked to call, by name, in order."""

    def __init__(self, nbytes: int = 0, *, cost: int | None = None) -> None:
        self.left = min(max(_COST_LEAST, nbytes // _COST_BYTES), _COST_MOST) if cost is None else cost
        self.called: dict[str, None] = {}

    def spend(self, cost: int) -> None:
        """Counts what is built. Raises FormatError once it is more than any honest file builds."""
        self.left -= cost
        if self.left < 0:
            raise FormatError("the pickle builds more objects than any model has; it looks like a decompression bomb")


class Machine(Protocol):
    """The machine as its handlers see it; `Unpickler` is the only one."""

    budget: Budget
    stack: list[Any]
    marks: list[list[Any]]
    memo: dict[int, Any]
    position: int

    def push(self, value: Any) -> None: ...
    def pop(self) -> Any: ...
    def top(self) -> Any: ...
    def pop_mark(self) -> list[Any]: ...
    def broken(self, what: str) -> NoReturn: ...

    def take(self, count: int) -> memoryview: ...
    def number(self, size: int, *, signed: bool = False) -> int: ...
    def line(self) -> bytes: ...
    def decimal(self, text: bytes) -> int: ...
    def text(self, raw: bytes | memoryview) -> str: ...

    def make_global(self, module: str, name: str) -> Global: ...
    def call(self, function: Any, args: Any) -> Any: ...
    def new(self, cls: Any, args: Any, kwargs: Any = None) -> Any: ...
    def build(self, target: Any, state: Any) -> None: ...
    def set_items(self, target: Any, pairs: list[Any]) -> None: ...
    def append(self, target: Any, items: list[Any]) -> None: ...
    def add(self, target: Any, items: list[Any]) -> None: ...
    def outside(self, identity: Any) -> Any: ...


Handler = Callable[[Machine, tuple[Any, ...]], Any]
"""What stands for a call of a name: it gets the machine and the arguments, and answers the value."""
