"""Calls that a pickle asks for and that no checkpoint needs: named wherever the file is looked at, never run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from converters.errors import ConversionError

_SUSPECT = re.compile(
    r"(os|posix|nt|subprocess|sys|socket|shutil|runpy|webbrowser|commands|pty|ctypes|importlib|pickle|marshal|pydoc|timeit|pdb)\.\w+|"
    r"(code\.Interactive|multiprocessing\.|torch\.hub\.|torch\.serialization\.load|torch\.load)\w*|"
    r"builtins\.(eval|exec|execfile|compile|open|__import__|map|filter|apply|input|setattr)"
)
_SHOWN = 6


def suspects(called: Iterable[str]) -> list[str]:
    """Those of the names of what a file asks to call that could do harm."""
    return [name for name in called if _SUSPECT.fullmatch(name)]


@contextlib.contextmanager
def naming(called: Iterable[str]) -> Iterator[None]:
    """Errors raised inside also name what the file asked to call until then."""
    try:
        yield
    except ConversionError as problem:
        if found := suspects(called):
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            problem.what += f"; the file asks to call {', '.join(found[:_SHOWN])}{more}, which was not run"
        raise
