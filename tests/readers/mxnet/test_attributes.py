"""Attribute text, as the releases and their users spelt it."""

from typing import Literal

import pytest

from converters.readers.mxnet.attributes import parse

READABLE = [
    ("3", int, 3),
    ("3L", int, 3),
    ("-1", int, -1),
    ("None", int | None, None),
    ("2", int | None, 2),
    ("1e-3", float, 1e-3),
    ("2", float, 2.0),
    (".5", float, 0.5),
    ("1.5f", float, 1.5),
    ("inf", float, float("inf")),
    ("True", bool, True),
    ("true", bool, True),
    ("1", bool, True),
    ("False", bool, False),
    ("0", bool, False),
    ("None", bool | None, None),
    ("(3, 3)", tuple[int, ...], (3, 3)),
    ("(3L, 3L)", tuple[int, ...], (3, 3)),
    ("[1,1]", tuple[int, ...], (1, 1)),
    ("(2,)", tuple[int, ...], (2,)),
    ("2", tuple[int, ...], (2,)),
    ("()", tuple[int, ...], ()),
    ("None", tuple[int, ...], ()),
    ("None", tuple[int, ...] | None, None),
    ("(None, -1)", tuple[int | None, ...], (None, -1)),
    ("(0.2, .5)", tuple[float, ...], (0.2, 0.5)),
    ("relu", Literal["relu", "tanh"], "relu"),
]


@pytest.mark.parametrize("text, kind, value", READABLE)
def test_readable(text, kind, value):
    assert parse(text, kind) == value


UNREADABLE = [
    ("3.5", int, "no integer"),
    ("", int, "no integer"),
    ("9" * 30, int, "no integer"),
    ("abc", float, "no number"),
    ("yes", bool, "True or False"),
    ("(3,", tuple[int, ...], "brackets"),
    ("(3]", tuple[int, ...], "brackets"),
    ("(3,,3)", tuple[int, ...], "unreadable tuple"),
    ("(a, b)", tuple[int, ...], "unreadable tuple"),
    ("__import__('os').system('true')", tuple[int, ...], "unreadable tuple"),
    ("median", Literal["max", "avg"], "must be one of max, avg"),
]


@pytest.mark.parametrize("text, kind, message", UNREADABLE)
def test_unreadable(text, kind, message):
    with pytest.raises(ValueError, match=message):
        parse(text, kind)
