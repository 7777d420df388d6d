"""Signals: whatever stops a command leaves no half file, and says so in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from converters.files import CUT_SHORT, cut_short, forget_temporaries, interruptions


class Stopped(BaseException):
    """SIGTERM or SIGHUP: unwinds like Ctrl-C, so that what is half written vanishes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def answered(*, as_json: bool) -> Iterator[list[BaseException]]:
    """Answers SIGINT, SIGTERM, SIGHUP and SIGBUS inside; gives the list of what the first three raised, which no file outlives.

    Elsewhere than in the main thread: nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    interruptions.clear()

    def stop(number: int, _: Any) -> None:
        interruptions.append(KeyboardInterrupt() if number == signal.SIGINT else Stopped(number))
        raise interruptions[-1]

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not with nohup
            before[number] = signal.signal(number, stop)
    undo = _answer_bus_errors(as_json)
    try:
        yield interruptions
    finally:
        interruptions.clear()
        undo()
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer_bus_errors(as_json: bool) -> Callable[[], None]:
    """A mapped file that another program cuts short kills with SIGBUS. A handler of Python's own would never run: one of C's does.

    It can't go on from there: it says which file it was, and ends the process.
    """
    number = getattr(signal, "SIGBUS", None)
    if number is None:
        return lambda: None
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        return lambda: None

    def answer(_: int) -> None:
        path = cut_short() or "an input"
        forget_temporaries()
        if as_json:
            text = json.dumps({"error": f"{path}: {CUT_SHORT}", "path": path, "line": None, "layer": None, "hint": None})
            os.write(1, f"{text}\n".encode())
        else:
            shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in path)
            os.write(2, f"error: {shown}: {CUT_SHORT}\n".encode(errors="backslashreplace"))
        os._exit(1)

    library = ctypes.CDLL(None)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(answer)
    library.signal.restype = ctypes.c_void_p
    library.signal(number, handler)

    def undo() -> None:
        signal.signal(number, signal.SIG_DFL)
        handler.__doc__ = "kept alive until here"

    return undo
