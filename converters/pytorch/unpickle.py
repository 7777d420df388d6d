"""A pickle machine that imports nothing and calls nothing: what isn't on its short list becomes an inert Stub.

Opcodes: CPython's Lib/pickletools.py. All protocols (0-5), Python 2's strings, sparse memo indices. Every loop is iterative, every
length is checked against the file before it is used, and the number of objects is bounded, so that a hostile file ends in a
FormatError. What a file would call is remembered by name and never run.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from converters.errors import FormatError, printable

MAX_COST = 24_000_000  # objects (large kinds count more): a dictionary of two million words fits, a bomb doesn't
_KEY_PARTS = 256  # parts of a tuple that is a dictionary's key
_DIGITS = 4300  # of a decimal integer, as CPython has it
_COPIED = 1 << 16  # byte strings up to this length are copied, longer ones stay views of the file


@dataclass(frozen=True)
class Global:
    """A class or function that the file names. Only its name is known; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Stub:
    """An object of a class that isn't on the list: what the file says of it, and nothing more.

    cls: the class, a Global (or a Stub, where the class itself was made by a call).
    args, kwargs: what its constructor would have been given.
    attributes: its `__dict__` as BUILD gave it; slots: values of `__slots__`; state: any other state it was given.
    items, entries: what was appended (a list's subclass) or set by key (a dict's subclass).
    data: the tensor, for a Stub that stands for one.
    """

    __slots__ = ("args", "attributes", "cls", "data", "entries", "items", "kwargs", "slots", "state")

    def __init__(self, cls: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        self.cls, self.args, self.kwargs = cls, args, kwargs
        self.attributes: dict[str, Any] = {}
        self.slots: dict[str, Any] | None = None
        self.items: list[Any] | None = None
        self.entries: dict[Any, Any] | None = None
        self.state: Any = None
        self.data: Any = None

    @property
    def class_name(self) -> str:
        """`package.module.Class`, for messages and tables."""
        cls: Any = self.cls
        for _ in range(100):
            if isinstance(cls, Global):
                return str(cls)
            if not isinstance(cls, Stub):
                break
            # A class pickled by value (cloudpickle) gives its name to the call that makes it.
            named = [arg for arg in cls.args if isinstance(arg, str)]
            if named:
                return str(named[0])
            cls = cls.cls
        return "a class without a name"

    def __repr__(self) -> str:
        return f"Stub({printable(self.class_name)})"


class Items(dict[Any, Any]):
    """A dictionary that is more than a dict (OrderedDict, defaultdict): its class's name, and its attributes (`_metadata`)."""

    __slots__ = ("attributes", "cls")

    def __init__(self, cls: Global) -> None:
        super().__init__()
        self.cls = cls
        self.attributes: dict[str, Any] = {}


class ByteString(str):
    """A Python 2 string: text where it is ASCII or UTF-8, otherwise read as Latin-1; `raw` is what the file has."""

    raw: bytes


class Opaque:
    """A dictionary's key that is too large to be compared; it is equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


Handler = Callable[["Unpickler", tuple[Any, ...]], Any]


@dataclass
class Rules:
    """What a file may build: closed tables from a name to the function that stands for it.

    call: name(*args) by REDUCE; new: name.__new__(*args) by NEWOBJ; build: obj.__setstate__ for a Stub of that class;
    build_other: the same for objects that are no Stubs; persistent: storages and other outside objects.
    """

    call: Mapping[Global, Handler] = field(default_factory=dict)
    new: Mapping[Global, Handler] = field(default_factory=dict)
    build: Mapping[Global, Callable[[Unpickler, Stub, Any], None]] = field(default_factory=dict)
    build_other: Callable[[Any, Any], None] | None = None
    persistent: Callable[[Any], Any] | None = None


class Budget:
    """How much may still be built, over all pickles of a file."""

    def __init__(self, cost: int = MAX_COST) -> None:
        self.left = cost

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise FormatError("the pickle builds more objects than any model has; it looks like a decompression bomb")


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
        self.called: dict[str, None] = {}  # names of what the file would have called, in order
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object that the pickle describes. Raises FormatError."""
        data, operations, length = self.data, _OPERATIONS, len(self.data)
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
        self._stack.append(value)

    def pop(self) -> Any:
        if not self._stack:
            self._broken("the stack is empty")
        return self._stack.pop()

    def top(self) -> Any:
        if not self._stack:
            self._broken("the stack is empty")
        return self._stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self._marks:
            self._broken("there is no mark")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _broken(self, what: str) -> NoReturn:
        raise FormatError(f"byte {self.position - 1}: the pickle is broken: {what}")

    # -- bytes

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.position:
            self._broken(f"{count} bytes are announced, {len(self.data) - self.position} are left")
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
                self._broken("a line has no end")
            step *= 4

    def decimal(self, text: bytes) -> int:
        if len(text) > _DIGITS:
            self._broken(f"an integer of {len(text)} digits")
        try:
            return int(text)
        except ValueError:
            self._broken(f"'{printable(text[:40])}' is no integer")

    def text(self, raw: bytes | memoryview) -> str:
        try:
            return str(raw, "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self._broken("text isn't UTF-8")

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
            self._broken("the arguments of a call are no tuple")
        if isinstance(function, Global):
            handler = self.rules.call.get(function) or _CALLS.get(function)
            if handler is not None:
                return handler(self, args)
        elif isinstance(function, Stub):
            if function.cls == _PARTIAL:
                return self._call_partial(function, args)
        else:
            self._broken(f"a {type(function).__name__} is called")
        self.budget.spend(3)
        self._note(function)
        return Stub(function, args)

    def _note(self, function: Any) -> None:
        """Remembers what the file would have called or made."""
        if len(self.called) < 1000:
            self.called.setdefault(printable(function if isinstance(function, Global) else getattr(function, "class_name", "?")))

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
            self._broken("the arguments of a new object are no tuple")
        if not isinstance(cls, Global | Stub):
            self._broken(f"a {type(cls).__name__} is used as a class")
        if isinstance(cls, Global):
            handler = self.rules.new.get(cls) or _NEW.get(cls)
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
            self._broken(f"a state is given to a {type(target).__name__}")

    def key(self, value: Any) -> Any:
        """A value made safe as a dictionary's key: hashing it is quick, whatever the file made of it."""
        if isinstance(value, str | bytes | float | bool | None):
            return value
        if isinstance(value, int):
            return value if -_BIG < value < _BIG else Opaque(value)
        if isinstance(value, list | dict | set | memoryview | bytearray):
            self._broken(f"a {type(value).__name__} is used as a dictionary's key")
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
            self._broken("a key has no value")
        if isinstance(target, Stub):
            target.entries = {} if target.entries is None else target.entries
            target = target.entries
        elif not isinstance(target, dict):
            self._broken(f"an entry is set in a {type(target).__name__}")
        for i in range(0, len(pairs), 2):
            target[self.key(pairs[i])] = pairs[i + 1]

    def append(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Stub):
            target.items = [] if target.items is None else target.items
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            self._broken(f"something is appended to a {type(target).__name__}")

    def add(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, set):
            target.update(self.key(item) for item in items)
        else:
            self.append(target, items)

    def outside(self, identity: Any) -> Any:
        if self.rules.persistent is None:
            self._broken("it refers to an object outside of itself")
        return self.rules.persistent(identity)


_BIG = 1 << 60
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "pickle", "UserDict": "collections"}
_PARTIAL = Global("functools", "partial")


# -- what may be called: containers and plain values


def _pairs(machine: Unpickler, items: Items, source: Any) -> None:
    if isinstance(source, dict):
        machine.set_items(items, [part for pair in source.items() for part in pair])
        return
    if not isinstance(source, list | tuple) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in source):
        machine._broken("a dictionary is made of something that isn't pairs")
    machine.set_items(items, [part for pair in source for part in pair])


def _ordered_dict(machine: Unpickler, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "OrderedDict"))
    if len(args) > 1:
        machine._broken("an OrderedDict of several arguments")
    if args:
        _pairs(machine, items, args[0])
    return items


def _default_dict(machine: Unpickler, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "defaultdict"))
    if len(args) > 1:
        _pairs(machine, items, args[1])
    return items


def _counter(machine: Unpickler, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "Counter"))
    if args:
        _pairs(machine, items, args[0])
    return items


def _set(machine: Unpickler, args: tuple[Any, ...]) -> set[Any]:
    items: set[Any] = set()
    machine.budget.spend(4)
    if args and not isinstance(args[0], list | tuple | set):
        machine._broken("a set is made of something that isn't a list")
    if args:
        machine.add(items, list(args[0]))
    return items


def _get_attribute(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    """getattr(Outer, 'Inner') is how old protocols name a nested class or a method: a name, not a call."""
    if len(args) == 2 and isinstance(args[0], Global) and isinstance(args[1], str):
        if len(args[0].name) + len(args[1]) > 1000:
            machine._broken("a name of more than 1000 characters")
        return machine.make_global(args[0].module, f"{args[0].name}.{args[1]}")
    return Stub(Global("builtins", "getattr"), args)


def _builtin_type(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    """dill names Python's own types by a call: _load_type('set')."""
    if len(args) == 1 and isinstance(args[0], str) and len(args[0]) < 100:
        return machine.make_global("builtins", str(args[0]))
    return Stub(Global("dill._dill", "_load_type"), args)


def _reconstructor(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    """Protocols 0 and 1 make objects by copyreg._reconstructor(cls, base, base's state)."""
    if len(args) != 3:
        machine._broken("copyreg._reconstructor without its three arguments")
    made = machine.new(args[0], ())
    if isinstance(made, Stub):
        if isinstance(args[2], dict):
            made.entries = args[2]
        elif isinstance(args[2], list):
            made.items = args[2]
    return made


def _encode(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    """Protocol 2 writes bytes as _codecs.encode(text, 'latin1')."""
    if not args or not isinstance(args[0], str) or len(args) > 2:
        return Stub(Global("_codecs", "encode"), args)
    name = args[1] if len(args) == 2 else "utf-8"
    if name not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        return Stub(Global("_codecs", "encode"), args)
    try:
        return args[0].encode(name)
    except UnicodeEncodeError:
        machine._broken(f"bytes that aren't {name}")


def _bytes(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    if not args:
        return b""
    if isinstance(args[0], bytes | memoryview) and len(args) == 1:
        return args[0]
    if isinstance(args[0], str) and len(args) == 2:
        return _encode(machine, args)
    return Stub(Global("builtins", "bytearray"), args)


def _complex(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    if len(args) == 2 and all(isinstance(part, float) for part in args):
        return complex(*args)
    return Stub(Global("builtins", "complex"), args)


def _new_object(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    if not args:
        machine._broken("a new object of no class")
    return machine.new(args[0], args[1:])


def _new_object_ex(machine: Unpickler, args: tuple[Any, ...]) -> Any:
    if len(args) != 3:
        machine._broken("a new object of no class")
    return machine.new(*args)


_CALLS: dict[Global, Handler] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("collections", "defaultdict"): _default_dict,
    Global("collections", "Counter"): _counter,
    Global("builtins", "set"): _set,
    Global("builtins", "getattr"): _get_attribute,
    Global("builtins", "bytearray"): _bytes,
    Global("builtins", "bytes"): _bytes,
    Global("builtins", "complex"): _complex,
    Global("_codecs", "encode"): _encode,
    Global("dill._dill", "_load_type"): _builtin_type,
    Global("dill.dill", "_load_type"): _builtin_type,
    Global("copyreg", "_reconstructor"): _reconstructor,
    Global("copyreg", "__newobj__"): _new_object,
    Global("copyreg", "__newobj_ex__"): _new_object_ex,
    _PARTIAL: lambda machine, args: Stub(_PARTIAL, args),
}
_NEW: dict[Global, Handler] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("collections", "defaultdict"): _default_dict,
    Global("collections", "Counter"): _counter,
}


# -- the opcodes, by their names in pickletools

_OPERATIONS: list[Callable[[Unpickler], None] | None] = [None] * 256


def _opcode(code: bytes) -> Callable[[Callable[[Unpickler], None]], Callable[[Unpickler], None]]:
    def register(function: Callable[[Unpickler], None]) -> Callable[[Unpickler], None]:
        _OPERATIONS[code[0]] = function
        return function

    return register


def _constant(code: bytes, value: Any) -> None:
    _OPERATIONS[code[0]] = lambda machine: machine._stack.append(value)


for _code, _value in ((b"N", None), (b"\x88", True), (b"\x89", False), (b")", ())):
    _constant(_code, _value)


@_opcode(b"\x80")
def _proto(machine: Unpickler) -> None:
    version = machine.number(1)
    if version > 5:
        machine._broken(f"it is of protocol {version}; 5 is the newest")


@_opcode(b"\x95")
def _frame(machine: Unpickler) -> None:
    machine.number(8)  # a hint for buffering alone


@_opcode(b"(")
def _mark(machine: Unpickler) -> None:
    machine._marks.append(machine._stack)
    machine._stack = []


@_opcode(b"0")
def _pop(machine: Unpickler) -> None:
    if machine._stack:
        machine._stack.pop()
    else:
        machine.pop_mark()


@_opcode(b"1")
def _pop_mark(machine: Unpickler) -> None:
    machine.pop_mark()


@_opcode(b"2")
def _dup(machine: Unpickler) -> None:
    machine.push(machine.top())


# numbers


@_opcode(b"K")
def _binint1(machine: Unpickler) -> None:
    machine.push(machine.number(1))


@_opcode(b"M")
def _binint2(machine: Unpickler) -> None:
    machine.push(machine.number(2))


@_opcode(b"J")
def _binint(machine: Unpickler) -> None:
    machine.push(machine.number(4, signed=True))


@_opcode(b"\x8a")
def _long1(machine: Unpickler) -> None:
    machine.push(machine.number(machine.number(1), signed=True))


@_opcode(b"\x8b")
def _long4(machine: Unpickler) -> None:
    machine.push(machine.number(machine.number(4, signed=True), signed=True))


@_opcode(b"I")
def _int(machine: Unpickler) -> None:
    text = machine.line()
    machine.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else machine.decimal(text))


@_opcode(b"L")
def _long(machine: Unpickler) -> None:
    machine.push(machine.decimal(machine.line().removesuffix(b"L")))


@_opcode(b"G")
def _binfloat(machine: Unpickler) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


@_opcode(b"F")
def _float(machine: Unpickler) -> None:
    text = machine.line()
    try:
        machine.push(float(text[:400]))
    except ValueError:
        machine._broken(f"'{printable(text[:40])}' is no number")


# text and bytes


def _push_text(machine: Unpickler, length: int) -> None:
    machine.push(machine.text(machine.take(length)))


def _push_bytes(machine: Unpickler, length: int) -> None:
    view = machine.take(length)
    machine.push(bytes(view) if length <= _COPIED else view)


def _push_old_string(machine: Unpickler, raw: bytes) -> None:
    try:
        text = ByteString(raw, "utf-8")
    except UnicodeDecodeError:
        text = ByteString(raw, "latin-1")
    text.raw = raw
    machine.budget.spend(2)
    machine.push(text)


for _code, _size in ((b"\x8c", 1), (b"X", 4), (b"\x8d", 8)):
    _opcode(_code)(lambda machine, size=_size: _push_text(machine, machine.number(size)))  # type: ignore[misc]
for _code, _size in ((b"C", 1), (b"B", 4), (b"\x8e", 8), (b"\x96", 8)):
    _opcode(_code)(lambda machine, size=_size: _push_bytes(machine, machine.number(size)))  # type: ignore[misc]
for _code, _size in ((b"U", 1), (b"T", 4)):
    _opcode(_code)(lambda machine, size=_size: _push_old_string(machine, bytes(machine.take(machine.number(size)))))  # type: ignore[misc]


@_opcode(b"S")
def _string(machine: Unpickler) -> None:
    text = machine.line().strip()
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        machine._broken("a string has no quotes")
    try:
        _push_old_string(machine, codecs.escape_decode(text[1:-1])[0])
    except ValueError:
        machine._broken("a string has a broken escape")


@_opcode(b"V")
def _unicode(machine: Unpickler) -> None:
    try:
        machine.push(str(machine.line(), "raw-unicode-escape"))
    except UnicodeDecodeError:
        machine._broken("a text has a broken escape")


# containers


@_opcode(b"]")
def _empty_list(machine: Unpickler) -> None:
    machine.push([])


@_opcode(b"}")
def _empty_dict(machine: Unpickler) -> None:
    machine.push({})


@_opcode(b"\x8f")
def _empty_set(machine: Unpickler) -> None:
    machine.budget.spend(4)
    machine.push(set())


@_opcode(b"l")
def _list(machine: Unpickler) -> None:
    machine.push(machine.pop_mark())


@_opcode(b"d")
def _dict(machine: Unpickler) -> None:
    made: dict[Any, Any] = {}
    machine.set_items(made, machine.pop_mark())
    machine.push(made)


@_opcode(b"t")
def _tuple(machine: Unpickler) -> None:
    machine.push(tuple(machine.pop_mark()))


@_opcode(b"\x85")
def _tuple1(machine: Unpickler) -> None:
    machine.push((machine.pop(),))


@_opcode(b"\x86")
def _tuple2(machine: Unpickler) -> None:
    second = machine.pop()
    machine.push((machine.pop(), second))


@_opcode(b"\x87")
def _tuple3(machine: Unpickler) -> None:
    third, second = machine.pop(), machine.pop()
    machine.push((machine.pop(), second, third))


@_opcode(b"\x91")
def _frozenset(machine: Unpickler) -> None:
    made = Stub(Global("builtins", "frozenset"))
    made.items = machine.pop_mark()
    machine.budget.spend(3)
    machine.push(made)


@_opcode(b"a")
def _append(machine: Unpickler) -> None:
    item = machine.pop()
    machine.append(machine.top(), [item])


@_opcode(b"e")
def _appends(machine: Unpickler) -> None:
    items = machine.pop_mark()
    machine.append(machine.top(), items)


@_opcode(b"s")
def _setitem(machine: Unpickler) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(), [key, value])


@_opcode(b"u")
def _setitems(machine: Unpickler) -> None:
    pairs = machine.pop_mark()
    machine.set_items(machine.top(), pairs)


@_opcode(b"\x90")
def _additems(machine: Unpickler) -> None:
    items = machine.pop_mark()
    machine.add(machine.top(), items)


# the memo


def _put(machine: Unpickler, index: int) -> None:
    if index < 0:
        machine._broken("a negative memo index")
    machine.budget.spend(1)
    machine._memo[index] = machine.top()


def _get(machine: Unpickler, index: int) -> None:
    if index not in machine._memo:
        machine._broken("it refers to a memo entry that it hasn't made")
    machine.push(machine._memo[index])


_opcode(b"q")(lambda machine: _put(machine, machine.number(1)))
_opcode(b"r")(lambda machine: _put(machine, machine.number(4)))
_opcode(b"p")(lambda machine: _put(machine, machine.decimal(machine.line()) % (1 << 64)))
_opcode(b"\x94")(lambda machine: _put(machine, len(machine._memo)))
_opcode(b"h")(lambda machine: _get(machine, machine.number(1)))
_opcode(b"j")(lambda machine: _get(machine, machine.number(4)))
_opcode(b"g")(lambda machine: _get(machine, machine.decimal(machine.line())))


# names and objects


@_opcode(b"c")
def _global(machine: Unpickler) -> None:
    module, name = machine.line(), machine.line()
    machine.push(machine.make_global(machine.text(module), machine.text(name)))


@_opcode(b"\x93")
def _stack_global(machine: Unpickler) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine._broken("a class's name is no text")
    machine.push(machine.make_global(module, name))


@_opcode(b"R")
def _reduce(machine: Unpickler) -> None:
    args = machine.pop()
    machine.push(machine.call(machine.pop(), args))


@_opcode(b"\x81")
def _newobj(machine: Unpickler) -> None:
    args = machine.pop()
    machine.push(machine.new(machine.pop(), args))


@_opcode(b"\x92")
def _newobj_ex(machine: Unpickler) -> None:
    kwargs, args = machine.pop(), machine.pop()
    machine.push(machine.new(machine.pop(), args, kwargs))


@_opcode(b"i")
def _inst(machine: Unpickler) -> None:
    module, name = machine.line(), machine.line()
    cls = machine.make_global(machine.text(module), machine.text(name))
    machine.push(machine.new(cls, tuple(machine.pop_mark())))


@_opcode(b"o")
def _obj(machine: Unpickler) -> None:
    parts = machine.pop_mark()
    if not parts:
        machine._broken("an object of no class")
    machine.push(machine.new(parts[0], tuple(parts[1:])))


@_opcode(b"b")
def _build(machine: Unpickler) -> None:
    state = machine.pop()
    machine.build(machine.top(), state)


@_opcode(b"Q")
def _binpersid(machine: Unpickler) -> None:
    machine.push(machine.outside(machine.pop()))


@_opcode(b"P")
def _persid(machine: Unpickler) -> None:
    machine.push(machine.outside(machine.text(machine.line())))


def _refuse(code: bytes, what: str) -> None:
    def refuse(machine: Unpickler) -> None:
        raise FormatError(f"byte {machine.position - 1}: the pickle uses {what}, which no checkpoint needs")

    _OPERATIONS[code[0]] = refuse


for _code in (b"\x82", b"\x83", b"\x84"):
    _refuse(_code, "the extension registry of the program that wrote it")
for _code in (b"\x97", b"\x98"):
    _refuse(_code, "data outside of itself")
