"""The opcodes of pickles of all protocols, as functions of the machine, in one table.

Source: CPython's Lib/pickletools.py, whose names they have.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from converters.errors import FormatError, printable
from converters.readers.pytorch.pickles.interface import Machine
from converters.readers.pytorch.pickles.stubs import ByteString, Global, LatinString, Stub

_COPIED = 1 << 16  # byte strings up to this length are copied, longer ones stay views of the file

OPERATIONS: list[Callable[[Machine], None] | None] = [None] * 256


def _opcode(code: bytes) -> Callable[[Callable[[Machine], None]], Callable[[Machine], None]]:
    def register(function: Callable[[Machine], None]) -> Callable[[Machine], None]:
        OPERATIONS[code[0]] = function
        return function

    return register


def _constant(code: bytes, value: Any) -> None:
    OPERATIONS[code[0]] = lambda machine: machine.stack.append(value)


for _code, _value in ((b"N", None), (b"\x88", True), (b"\x89", False), (b")", ())):
    _constant(_code, _value)


@_opcode(b"\x80")
def _proto(machine: Machine) -> None:
    version = machine.number(1)
    if version > 5:
        machine.broken(f"it is of protocol {version}; 5 is the newest")


@_opcode(b"\x95")
def _frame(machine: Machine) -> None:
    machine.number(8)  # a hint for buffering alone


@_opcode(b"(")
def _mark(machine: Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


@_opcode(b"0")
def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


@_opcode(b"1")
def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


@_opcode(b"2")
def _dup(machine: Machine) -> None:
    machine.push(machine.top())


# numbers


@_opcode(b"K")
def _binint1(machine: Machine) -> None:
    machine.push(machine.number(1))


@_opcode(b"M")
def _binint2(machine: Machine) -> None:
    machine.push(machine.number(2))


@_opcode(b"J")
def _binint(machine: Machine) -> None:
    machine.push(machine.number(4, signed=True))


@_opcode(b"\x8a")
def _long1(machine: Machine) -> None:
    machine.push(machine.number(machine.number(1), signed=True))


@_opcode(b"\x8b")
def _long4(machine: Machine) -> None:
    machine.push(machine.number(machine.number(4, signed=True), signed=True))


@_opcode(b"I")
def _int(machine: Machine) -> None:
    text = machine.line()
    machine.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else machine.decimal(text))


@_opcode(b"L")
def _long(machine: Machine) -> None:
    machine.push(machine.decimal(machine.line().removesuffix(b"L")))


@_opcode(b"G")
def _binfloat(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


@_opcode(b"F")
def _float(machine: Machine) -> None:
    text = machine.line()
    try:
        machine.push(float(text[:400]))
    except ValueError:
        machine.broken(f"'{printable(text[:40])}' is no number")


# text and bytes


def _push_text(machine: Machine, length: int) -> None:
    machine.push(machine.text(machine.take(length)))


def _push_bytes(machine: Machine, length: int) -> None:
    view = machine.take(length)
    machine.push(bytes(view) if length <= _COPIED else view)


def _push_old_string(machine: Machine, raw: bytes) -> None:
    text: ByteString
    try:
        text = ByteString(raw, ByteString.encoding)
    except UnicodeDecodeError:
        text = LatinString(raw, LatinString.encoding)
    machine.budget.spend(2)
    machine.push(text)


for _code, _size in ((b"\x8c", 1), (b"X", 4), (b"\x8d", 8)):
    _opcode(_code)(lambda machine, size=_size: _push_text(machine, machine.number(size)))  # type: ignore[misc]
for _code, _size in ((b"C", 1), (b"B", 4), (b"\x8e", 8), (b"\x96", 8)):
    _opcode(_code)(lambda machine, size=_size: _push_bytes(machine, machine.number(size)))  # type: ignore[misc]
for _code, _size in ((b"U", 1), (b"T", 4)):
    _opcode(_code)(lambda machine, size=_size: _push_old_string(machine, bytes(machine.take(machine.number(size)))))  # type: ignore[misc]


@_opcode(b"S")
def _string(machine: Machine) -> None:
    text = machine.line().strip()
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        machine.broken("a string has no quotes")
    try:
        _push_old_string(machine, codecs.escape_decode(text[1:-1])[0])
    except ValueError:
        machine.broken("a string has a broken escape")


@_opcode(b"V")
def _unicode(machine: Machine) -> None:
    try:
        machine.push(str(machine.line(), "raw-unicode-escape"))
    except UnicodeDecodeError:
        machine.broken("a text has a broken escape")


# containers


@_opcode(b"]")
def _empty_list(machine: Machine) -> None:
    machine.push([])


@_opcode(b"}")
def _empty_dict(machine: Machine) -> None:
    machine.push({})


@_opcode(b"\x8f")
def _empty_set(machine: Machine) -> None:
    machine.budget.spend(4)
    machine.push(set())


@_opcode(b"l")
def _list(machine: Machine) -> None:
    machine.push(machine.pop_mark())


@_opcode(b"d")
def _dict(machine: Machine) -> None:
    made: dict[Any, Any] = {}
    machine.set_items(made, machine.pop_mark())
    machine.push(made)


@_opcode(b"t")
def _tuple(machine: Machine) -> None:
    machine.push(tuple(machine.pop_mark()))


@_opcode(b"\x85")
def _tuple1(machine: Machine) -> None:
    machine.push((machine.pop(),))


@_opcode(b"\x86")
def _tuple2(machine: Machine) -> None:
    second = machine.pop()
    machine.push((machine.pop(), second))


@_opcode(b"\x87")
def _tuple3(machine: Machine) -> None:
    third, second = machine.pop(), machine.pop()
    machine.push((machine.pop(), second, third))


@_opcode(b"\x91")
def _frozenset(machine: Machine) -> None:
    made = Stub(Global("builtins", "frozenset"))
    made.items = machine.pop_mark()
    machine.budget.spend(3)
    machine.push(made)


@_opcode(b"a")
def _append(machine: Machine) -> None:
    item = machine.pop()
    machine.append(machine.top(), [item])


@_opcode(b"e")
def _appends(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.append(machine.top(), items)


@_opcode(b"s")
def _setitem(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(), [key, value])


@_opcode(b"u")
def _setitems(machine: Machine) -> None:
    pairs = machine.pop_mark()
    machine.set_items(machine.top(), pairs)


@_opcode(b"\x90")
def _additems(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.add(machine.top(), items)


# the memo


def _put(machine: Machine, index: int) -> None:
    if index < 0:
        machine.broken("a negative memo index")
    machine.budget.spend(1)
    machine.memo[index] = machine.top()


def _get(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        machine.broken("it refers to a memo entry that it hasn't made")
    machine.push(machine.memo[index])


_opcode(b"q")(lambda machine: _put(machine, machine.number(1)))
_opcode(b"r")(lambda machine: _put(machine, machine.number(4)))
_opcode(b"p")(lambda machine: _put(machine, machine.decimal(machine.line()) % (1 << 64)))
_opcode(b"\x94")(lambda machine: _put(machine, len(machine.memo)))
_opcode(b"h")(lambda machine: _get(machine, machine.number(1)))
_opcode(b"j")(lambda machine: _get(machine, machine.number(4)))
_opcode(b"g")(lambda machine: _get(machine, machine.decimal(machine.line())))


# names and objects


@_opcode(b"c")
def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.push(machine.make_global(machine.text(module), machine.text(name)))


@_opcode(b"\x93")
def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine.broken("a class's name is no text")
    machine.push(machine.make_global(module, name))


@_opcode(b"R")
def _reduce(machine: Machine) -> None:
    args = machine.pop()
    machine.push(machine.call(machine.pop(), args))


@_opcode(b"\x81")
def _newobj(machine: Machine) -> None:
    args = machine.pop()
    machine.push(machine.new(machine.pop(), args))


@_opcode(b"\x92")
def _newobj_ex(machine: Machine) -> None:
    kwargs, args = machine.pop(), machine.pop()
    machine.push(machine.new(machine.pop(), args, kwargs))


@_opcode(b"i")
def _inst(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    cls = machine.make_global(machine.text(module), machine.text(name))
    machine.push(machine.new(cls, tuple(machine.pop_mark())))


@_opcode(b"o")
def _obj(machine: Machine) -> None:
    parts = machine.pop_mark()
    if not parts:
        machine.broken("an object of no class")
    machine.push(machine.new(parts[0], tuple(parts[1:])))


@_opcode(b"b")
def _build(machine: Machine) -> None:
    state = machine.pop()
    machine.build(machine.top(), state)


@_opcode(b"Q")
def _binpersid(machine: Machine) -> None:
    machine.push(machine.outside(machine.pop()))


@_opcode(b"P")
def _persid(machine: Machine) -> None:
    machine.push(machine.outside(machine.text(machine.line())))


def _refuse(code: bytes, what: str) -> None:
    def refuse(machine: Machine) -> None:
        raise FormatError(f"byte {machine.position - 1}: the pickle uses {what}, which no checkpoint needs")

    OPERATIONS[code[0]] = refuse


for _code in (b"\x82", b"\x83", b"\x84"):
    _refuse(_code, "the extension registry of the program that wrote it")
for _code in (b"\x97", b"\x98"):
    _refuse(_code, "data outside of itself")
