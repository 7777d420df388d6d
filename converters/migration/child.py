"""The process that models are converted in: it stays warm, takes one after the other, and may be killed at any moment.

What it is asked comes in on what was its standard input, what it answers goes out on what was its standard output; the code of models and
plugins finds neither.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import pickle
import signal
import sys
from dataclasses import asdict
from typing import Any

from converters.packages import MissingPackageError

_PR_SET_PDEATHSIG = 1


def serve() -> None:
    """Answers until nobody asks any more."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run's to answer
    _die_with_parent()
    from converters.migration.conversion import convert

    for line in questions:
        question = pickle.loads(base64.b64decode(line))  # noqa: S301  from our own parent
        if isinstance(question, str):
            _import(question)
            _answer(answers, {"imported": question})
        else:
            _answer(answers, asdict(convert(*question)))
    os._exit(0)


def _answer(answers: Any, plain: dict[str, Any]) -> None:
    answers.write(json.dumps(plain).encode() + b"\n")
    answers.flush()


def _die_with_parent() -> None:
    """An orphan writes nothing: where the system can do that, it is killed with the process that started it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if str(os.getppid()) != os.environ.get("CONVERTERS_PARENT"):
            os._exit(1)  # it is gone already


def _import(module: str) -> None:
    """Imports what models need, before their time counts. What can't be imported is a matter of the model that needs it."""
    with contextlib.suppress(ImportError, OSError, MissingPackageError):
        importlib.import_module(module)
