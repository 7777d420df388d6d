"""A pickle machine that imports nothing and calls nothing: what isn't on its short list becomes an inert Stub.

Opcodes: CPython's Lib/pickletools.py. All protocols (0-5), Python 2's strings, sparse memo indices. Every loop is iterative, every
length is checked against the file before it is used, and the number of objects is bounded, so that a hostile file ends in a
FormatError. What a file would call is remembered by name and never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from converters.errors import FormatError, printable
from converters.readers.pytorch.pickles.calls import CALLS, NEW, PARTIAL
from converters.readers.pytorch.pickles.interface import Budget, Handler, Machine
from converters.readers.pytorch.pickles.opcodes import OPERATIONS
from converters.readers.pytorch.pickles.stubs import Global, Items, Opaque, Stub

_KEY_PARTS = 256  # parts of a tuple that is a dictionary's key
_DIGITS = 4300  # of a decimal integer, as CPython has it


@dataclass
class Rules:
    """What a file may build: closed tables from a name to the function that stands for it.

    call: name(*args) by REDUCE; new: name.__new__(*args) by NEWOBJ; build: obj.__setstate__ for a Stub of that class;
    build_other: the same for objects that are no Stubs; persistent: storages and other outside objects.
    """

    call: Mapping[Global, Handler] = field(default_factory=dict)
    new: Mapping[Global, Handler] = field(default_factory=dict)
    build: Mapping[Global, Callable[[Machine, Stub, Any], None]] = field(default_factory=dict)
    build_other: Callable[[Any, Any], None] | None = None
    persistent: Callable[[Any], Any] | None = None


class Unpickler:
    """Reads one pickle from data at position; `position` is the first byte after it once load() is done.

    >>> Unpickler(b"\\x80\\x02]q\\x00(K\\x01K\\x02e.").load()
    [1, 2]
    >>> Unpickler(b"cos\\nsystem\\n(S'echo hello'\\ntR.").load()
    Stub(os.system)
    """

    def __init__(self, data: bytes | memoryview, rules: Rules | None = None, *, position: int = 0, budget: Budget | None = None) -> None:
        self.data = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self.position = position
        self.rules = rules or Rules()
        self.budget = budget or Budget()
        self.globals: dict[tuple[str, str], Global] = {}
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object that the pickle describes. Raises FormatError."""
        data, operations, length = self.data, OPERATIONS, len(self.data)
        budget = self.budget
        while True:
            at = self.position
            if at >= length:
                raise FormatError("the pickle ends before its STOP: the file is cut short or broken")
            opcode = data[at]
            if opcode == 0x2E:  # STOP
                self.position = at + 1
                return self.pop()
            operation = operations[opcode]
            if operation is None:
                raise FormatError(f"byte {at}: 0x{opcode:02x} is no pickle opcode: the file is broken or no pickle")
            self.position = at + 1
            budget.left -= 1
            if budget.left < 0:
                budget.spend(0)
            operation(self)

    # -- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            self.broken("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            self.broken("the stack is empty")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            self.broken("there is no mark")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def broken(self, what: str) -> NoReturn:
        raise FormatError(f"byte {self.position - 1}: the pickle is broken: {what}")

    # -- bytes

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.position:
            self.broken(f"{count} bytes are announced, {len(self.data) - self.position} are left")
        view = self.data[self.position : self.position + count]
        self.position += count
        return view

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> bytes:
        step = 256
        while True:
            piece = bytes(self.data[self.position : self.position + step])
            end = piece.find(b"\n")
            if end >= 0:
                self.position += end + 1
                return piece[:end].removesuffix(b"\r")
            if self.position + step >= len(self.data):
                self.broken("a line has no end")
            step *= 4

    def decimal(self, text: bytes) -> int:
        if len(text) > _DIGITS:
            self.broken(f"an integer of {len(text)} digits")
        try:
            return int(text)
        except ValueError:
            self.broken(f"'{printable(text[:40])}' is no integer")

    def text(self, raw: bytes | memoryview) -> str:
        try:
            return str(raw, "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.broken("text isn't UTF-8")

    # -- building

    def make_global(self, module: str, name: str) -> Global:
        module = _RENAMED.get(module, module)
        known = self.globals.get((module, name))
        if known is None:
            self.budget.spend(3)
            known = self.globals[module, name] = Global(module, name)
        return known

    def call(self, function: Any, args: Any) -> Any:
        """What function(*args) stands for: by the list, or a Stub."""
        if not isinstance(args, tuple):
            self.broken("the arguments of a call are no tuple")
        if isinstance(function, Global):
            handler = self.rules.call.get(function) or CALLS.get(function)
            if handler is not None:
                return handler(self, args)
        elif isinstance(function, Stub):
            if function.cls == PARTIAL:
                return self._call_partial(function, args)
        else:
            self.broken(f"a {type(function).__name__} is called")
        self.budget.spend(3)
        self._note(function)
        return Stub(function, args)

    def _note(self, function: Any) -> None:
        """Remembers what the file would have called or made."""
        if len(self.budget.called) < 1000:
            self.budget.called.setdefault(printable(function if isinstance(function, Global) else getattr(function, "class_name", "?")))

    def _call_partial(self, partial: Stub, args: tuple[Any, ...]) -> Any:
        """Protocol 2 writes cls.__new__(cls, *args, **kwargs) as a functools.partial of it that is called without arguments."""
        state = partial.state
        if isinstance(state, tuple) and len(state) == 4 and isinstance(state[1], tuple) and isinstance(state[2], dict | None):
            function, bound, kwargs = state[:3]
        else:
            function, bound, kwargs = (partial.args or (None,))[0], partial.args[1:], None
        if isinstance(function, Global) and function.name.endswith(".__new__") and bound:
            return self.new(bound[0], (*bound[1:], *args), kwargs)
        self.budget.spend(3)
        self._note(function)
        return Stub(partial, args)

    def new(self, cls: Any, args: Any, kwargs: Any = None) -> Any:
        """What cls.__new__(cls, *args, **kwargs) stands for."""
        if not isinstance(args, tuple) or not isinstance(kwargs, dict | None):
            self.broken("the arguments of a new object are no tuple")
        if not isinstance(cls, Global | Stub):
            self.broken(f"a {type(cls).__name__} is used as a class")
        if isinstance(cls, Global):
            handler = self.rules.new.get(cls) or NEW.get(cls)
            if handler is not None:
                return handler(self, args)
        self.budget.spend(3)
        self._note(cls)
        return Stub(cls, args, kwargs)

    def build(self, target: Any, state: Any) -> None:
        """What target.__setstate__(state), or an update of its __dict__, stands for."""
        if isinstance(target, Stub):
            handler = self.rules.build.get(target.cls) if isinstance(target.cls, Global) else None
            if handler is not None:
                handler(self, target, state)
                return
            plain, slots = state, None
            if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict) and isinstance(state[0], dict | None):
                plain, slots = state
            if isinstance(plain, dict):
                target.attributes.update(plain)
            elif plain is not None or slots is None:
                target.state = plain
                # What a __setstate__ makes of a tuple only its code knows; the dictionaries in it are mostly the attributes.
                for part in plain if isinstance(plain, tuple) and len(plain) < 10 else ():
                    if isinstance(part, dict):
                        target.attributes.update(part)
            if slots is not None:
                target.slots = slots
        elif isinstance(target, Items):
            if isinstance(state, dict):
                target.attributes.update(state)
        elif isinstance(target, Global):
            raise FormatError(f"the pickle changes {printable(target)} itself; no honest checkpoint does, so it isn't read")
        elif self.rules.build_other is not None:
            self.rules.build_other(target, state)
        else:
            self.broken(f"a state is given to a {type(target).__name__}")

    def key(self, value: Any) -> Any:
        """A value made safe as a dictionary's key: hashing it is quick, whatever the file made of it."""
        if isinstance(value, str | bytes | float | bool | None):
            return value
        if isinstance(value, int):
            return value if -_BIG < value < _BIG else Opaque(value)
        if isinstance(value, list | dict | set | memoryview | bytearray):
            self.broken(f"a {type(value).__name__} is used as a dictionary's key")
        if not isinstance(value, tuple):
            return value  # Stubs, Globals and tensors are told apart by identity or name
        pending, parts = [value], 0
        while pending:
            parts += len(part := pending.pop())
            if parts > _KEY_PARTS:
                return Opaque(value)
            for item in part:
                if isinstance(item, tuple):
                    pending.append(item)
                elif self.key(item) is not item:
                    return Opaque(value)
        return value

    def set_items(self, target: Any, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            self.broken("a key has no value")
        if isinstance(target, Stub):
            target.entries = {} if target.entries is None else target.entries
            target = target.entries
        elif not isinstance(target, dict):
            self.broken(f"an entry is set in a {type(target).__name__}")
        for i in range(0, len(pairs), 2):
            target[self.key(pairs[i])] = pairs[i + 1]

    def append(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Stub):
            target.items = [] if target.items is None else target.items
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            self.broken(f"something is appended to a {type(target).__name__}")

    def add(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, set):
            target.update(self.key(item) for item in items)
        else:
            self.append(target, items)

    def outside(self, identity: Any) -> Any:
        if self.rules.persistent is None:
            self.broken("it refers to an object outside of itself")
        return self.rules.persistent(identity)


_BIG = 1 << 60
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "pickle", "UserDict": "collections"}
