"""A file per topic of operators; its rows are its ROWS."""

from __future__ import annotations

import importlib
import pkgutil

from tests.readers.mxnet.operator_case import OperatorCase


def rows_of_all_topics() -> list[OperatorCase]:
    """The rows of all topics' files."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [row for module in modules for row in getattr(module, "ROWS", ())]
