"""The tables are complete: every class that can be lowered has a row, or a case that Torch7 itself has answered."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

from converters.readers.torch7 import lowers
from tests.conformance import cases
from tests.readers.torch7 import modules
from tests.readers.torch7.lua import Object
from tests.readers.torch7.module_case import ModuleCase

ELSEWHERE = {"nn.gModule", "nngraph.JustElement", "nngraph.JustTable", "nn.SpatialMaxUnpooling", "nn.VolumetricMaxUnpooling"}
"""Classes with tests of their own: test_nngraph.py, and modules that need others of the same net (test_pooling.py)."""


def types(value: Any) -> Iterator[str]:
    """The classes of a module and of all within it."""
    if isinstance(value, Object):
        yield value.typename
        yield from types(value.fields)
    elif isinstance(value, dict):
        for item in value.values():
            yield from types(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from types(item)


def rows() -> Iterator[ModuleCase]:
    for topic in pkgutil.iter_modules(modules.__path__, f"{modules.__name__}."):
        yield from getattr(importlib.import_module(topic.name), "CASES", ())


def test_every_class_has_a_row_or_a_case() -> None:
    found = {name for case in rows() for name in types(case.made)}
    answered = {name for case in cases("torch7", "torch7-community") for name in case.about["modules"]}
    assert set(lowers) - found - answered <= ELSEWHERE


def test_every_row_has_a_name_of_its_own() -> None:
    names = [case.id for case in rows()]
    assert len(set(names)) == len(names)


def test_every_class_says_what_it_does_and_where_that_is_from() -> None:
    for name in lowers:
        assert "Source: " in (lowers[name].__doc__ or ""), name
