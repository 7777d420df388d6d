"""Protobuf's text format, read in one pass: text -> a tree of fields that know their place -> messages of a compiled schema.

protobuf's own text_format neither says on which line a message began nor keeps fields that the schema doesn't know, and it
recurses where the file nests. This reader does the first two and has no recursion. Grammar: protobuf's "Text Format Language
Specification".
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from converters.errors import FormatError, printable

DEPTH_LIMIT = 100
"""Messages nested deeper than this are refused, as protobuf refuses them."""

_TOKEN = re.compile(
    r"""(?:[\s]+|\#[^\n]*)*
    (?: (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[{}<>\[\]:,;])
      | (?P<number>[-+]?\s*
          (?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?|(?i:inf(?:inity)?|nan))(?![A-Za-z0-9_.]))
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<end>\Z)
      | (?P<other>.) )""",
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}
_ESCAPE = re.compile(rb"\\(?:([abfnrtv\\'\"?])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))|\\")
_PLAIN_ESCAPES = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


@dataclass(slots=True)
class Field:
    """One `name: value` or `name { ... }`; kind is "name", "number", "string" or "message"; offset is where the name stands."""

    name: str
    kind: str
    value: Any
    offset: int


@dataclass(slots=True)
class Unknown:
    """What the schema has no place for: the path inside its message, the field, and what is wrong with it."""

    path: str
    field: Field
    reason: str


class Document:
    """A text file's content, which turns offsets into lines."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self._lines: list[int] | None = None

    def line(self, offset: int) -> int:
        return self._place(offset)[0]

    def error(self, offset: int, message: str) -> FormatError:
        """A FormatError at line:column."""
        line, column = self._place(offset)
        return FormatError(message, path=self.file, line=line, column=column)

    def _place(self, offset: int) -> tuple[int, int]:
        if self._lines is None:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1


# -- text to fields --------------------------------------------------------------------------------------------------------


def _tokens(document: Document) -> Iterator[tuple[str, str, int]]:
    for match in _TOKEN.finditer(document.text):
        kind = match.lastgroup or "end"
        start = match.start(kind)
        if kind == "other":
            wrong = document.text[start]
            what = "a string that isn't closed on its line" if wrong in "\"'" else f"unexpected character '{printable(wrong)}'"
            raise document.error(start, what)
        yield kind, match.group(kind), start
        if kind == "end":
            return


def parse(document: Document) -> list[Field]:
    """The fields of a text-format message. Raises FormatError with line and column."""
    return _Parser(document).message("", 0, 0)


class _Parser:
    """Goes through the tokens one by one; `kind`, `text` and `offset` are the one at hand."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._next = _tokens(document).__next__
        self.step()

    def step(self) -> None:
        self.kind, self.text, self.offset = self._next()

    def at(self, marks: str) -> bool:
        """Whether the token at hand is one of these marks."""
        return self.kind == "mark" and self.text in marks

    def take(self, marks: str) -> bool:
        """Goes past one of these marks, if one is at hand."""
        found = self.at(marks)
        if found:
            self.step()
        return found

    def expected(self, what: str) -> FormatError:
        return self.document.error(self.offset, f"expected {what}, found {_shown(self.kind, self.text)}")

    def message(self, closing: str, opened: int, depth: int) -> list[Field]:
        """The fields up to the closing mark, or to the end of the file where that is empty; opened: the offset where it began."""
        fields: list[Field] = []
        while True:
            if self.kind == "name":
                self._field(fields, depth)
            elif closing and self.at(closing):
                self.step()
                return fields
            elif self.kind == "end":
                if closing:
                    line = self.document.line(opened)
                    raise self.document.error(self.offset, f"the file ends inside a message: a '{closing}' is missing for line {line}")
                return fields
            else:
                raise self.expected(f"a field name or '{closing}'" if closing else "a field name")

    def _field(self, fields: list[Field], depth: int) -> None:
        """A name with its value, or with a list of values, which are fields of that name."""
        name, start = self.text, self.offset
        self.step()
        colon = self.take(":")
        if not self.take("["):
            fields.append(self._value(name, start, colon, depth))
        elif not self.take("]"):
            while True:
                fields.append(self._value(name, start, colon, depth))
                colon = colon or fields[-1].kind == "message"
                if self.take("]"):
                    break
                if not self.take(","):
                    raise self.expected(f"',' or ']' in the list of {printable(name)}")
        self.take(",;")

    def _value(self, name: str, start: int, colon: bool, depth: int) -> Field:
        """A message, or a scalar, which needs a colon before it."""
        if self.at("{<"):
            if depth >= DEPTH_LIMIT:
                raise self.document.error(self.offset, f"messages are nested more than {DEPTH_LIMIT} deep")
            closing, opened = _CLOSING[self.text], self.offset
            self.step()
            return Field(name, "message", self.message(closing, opened, depth + 1), start)
        if self.kind in ("mark", "end"):
            raise self.expected(f"a value for {printable(name)}")
        if not colon:
            raise self.expected(f"':' or '{{' after {printable(name)}")
        kind, value = self.kind, self.text
        if kind == "string":
            value = ""
            while self.kind == "string":
                value += _unquote(self.document, self.text, self.offset)
                self.step()
        else:
            self.step()
        return Field(name, kind, value, start)


def _shown(kind: str, text: str) -> str:
    return "the end of the file" if kind == "end" else f"'{printable(text, 40)}'"


def _unquote(document: Document, quoted: str, offset: int) -> str:
    inner = quoted[1:-1]
    if not inner.isascii() and re.search("[\ud800-\udfff]", inner):
        raise document.error(offset, "a string isn't UTF-8")
    if "\\" not in inner:
        return inner

    def plain(match: re.Match[bytes]) -> bytes:
        simple, octal, hexadecimal, short, long = match.groups()
        if simple:
            return bytes([_PLAIN_ESCAPES[simple[0]]])
        if octal:
            return bytes([int(octal, 8) & 255])
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        code = int(short or long or b"110000", 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise document.error(offset, "a string holds an escape that means nothing")
        return chr(code).encode()

    try:
        return _ESCAPE.sub(plain, inner.encode()).decode()
    except UnicodeDecodeError as problem:
        raise document.error(offset, "a string isn't UTF-8") from problem


# -- fields to messages ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Slot:
    """What the schema says of a field."""

    repeated: bool
    type: int
    enum: dict[str, int] | None
    message: bool


@functools.cache
def _slots(descriptor: Descriptor) -> dict[str, _Slot]:
    slots = {}
    for field in descriptor.fields:
        # `label` went in protobuf 7, `is_repeated` came in 6.31
        repeated = field.is_repeated if hasattr(field, "is_repeated") else getattr(field, "label", 0) == 3
        names = {value.name: value.number for value in field.enum_type.values} if field.enum_type else None
        slots[field.name] = _Slot(repeated, field.cpp_type, names, field.message_type is not None)
    return slots


_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1, "a 32-bit integer"),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1, "an unsigned 32-bit integer"),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, "a 64-bit integer"),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1, "an unsigned 64-bit integer"),
}
_BOOLS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


def fill(message: Message, fields: Iterable[Field], document: Document, unknown: list[Unknown], path: str = "") -> None:
    """Puts fields into a message; collects in `unknown` what the schema doesn't know (fields, and names of enums).

    Raises FormatError for values of the wrong type and for fields given twice that aren't repeated. Recursion is bounded by
    the schema, not by the file.
    """
    slots = _slots(message.DESCRIPTOR)
    seen: dict[str, int] = {}
    for field in fields:
        slot = slots.get(field.name)
        where = path + field.name
        if slot is None:
            unknown.append(Unknown(where, field, "no such field"))
            continue
        if not slot.repeated:
            if field.name in seen:
                first = document.line(seen[field.name])
                raise document.error(field.offset, f"{printable(where)} is given twice (first on line {first}); it may be given once")
            seen[field.name] = field.offset
        if slot.message:
            if field.kind != "message":
                raise document.error(field.offset, f"{printable(where)} is a message: expected '{{'")
            inner = getattr(message, field.name)
            inner = inner.add() if slot.repeated else inner
            if not slot.repeated:
                inner.SetInParent()
            fill(inner, field.value, document, unknown, where + ".")
            continue
        value = _scalar(slot, field, document, where)
        if value is None:
            choices = ", ".join(slot.enum or ())
            unknown.append(Unknown(where, field, f"'{printable(field.value, 40)}' is none of {choices}"))
        elif slot.repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def _scalar(slot: _Slot, field: Field, document: Document, where: str) -> Any:
    """A field's value in Python; None for a name that its enum doesn't have."""
    kind, text = field.kind, field.value

    def wrong(expected: str) -> FormatError:
        found = "a message" if kind == "message" else f"'{printable(text, 40)}'"
        return document.error(field.offset, f"{printable(where)}: {found} is not {expected}")

    if slot.type == FieldDescriptor.CPPTYPE_STRING:
        if kind != "string":
            raise wrong("a string in quotes")
        return text
    if kind not in ("number", "name"):
        raise wrong({FieldDescriptor.CPPTYPE_ENUM: "a name", FieldDescriptor.CPPTYPE_BOOL: "true or false"}.get(slot.type, "a number"))
    if slot.enum is not None:
        if kind == "name":
            return slot.enum.get(text)
        number = _integer(text)
        return number if number in slot.enum.values() else None
    if slot.type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in _BOOLS:
            raise wrong("true or false")
        return _BOOLS[text]
    if slot.type in _RANGES:
        low, high, expected = _RANGES[slot.type]
        number = _integer(text) if kind == "number" else None
        if number is None or not low <= number <= high:
            raise wrong(expected)
        return number
    try:
        return _real(text)
    except (ValueError, OverflowError):
        raise wrong("a number") from None


def _integer(text: str) -> int | None:
    digits = "".join(text.split())
    try:
        if re.fullmatch(r"[-+]?0[0-7]+", digits):
            return int(digits, 8)
        return int(digits, 0)
    except ValueError:
        return None


def _real(text: str) -> float:
    digits = "".join(text.split()).lower()
    if "x" in digits:
        return float(int(digits, 16))
    if digits.lstrip("+-") not in ("inf", "infinity", "nan"):
        if not digits.lstrip("+-")[:1].isdigit() and not digits.lstrip("+-").startswith("."):
            raise ValueError(text)
        digits = digits.rstrip("f")
    return float(digits)
