"""ONNX's own node tests, converted here or by onnx2torch: `python -m tests.node_cases [onnx2torch]`, right, refused and wrong.

onnx2torch has to be installed for the second. What it answers in another type or shape, or with other numbers, is wrong; what raises, when
it converts or when it runs, is refused.
"""

from __future__ import annotations

import collections
import sys
import warnings
from typing import Any

import torch

from tests.readers.onnx import test_backend_cases


def by_peer(case: Any) -> tuple[str, str]:
    """What onnx2torch makes of a case."""
    import onnx2torch

    try:
        module = onnx2torch.convert(case.model).eval()
        answers = []
        for inputs, outputs in case.data_sets:
            with torch.no_grad():
                answers.append((module(*map(test_backend_cases.tensor_of, inputs)), outputs))
    except Exception as problem:
        return "refused", type(problem).__name__
    try:
        for got, outputs in answers:
            for ours, theirs in zip(got if isinstance(got, list | tuple) else (got,), outputs, strict=True):
                test_backend_cases.compare(ours, theirs, case.rtol, case.atol)
    except Exception as problem:
        return "wrong", f"{type(problem).__name__}: {problem}"
    return "passed", ""


def main(arguments: list[str]) -> None:
    """Prints what doesn't pass, and the counts."""
    warnings.simplefilter("ignore")
    outcome = by_peer if "onnx2torch" in arguments else test_backend_cases.outcome
    counts: collections.Counter[str] = collections.Counter()
    for case in test_backend_cases.cases():
        result, words = outcome(case)
        counts[result] += 1
        if result != "passed":
            print(result, case.name, " ".join(words.split())[:200], flush=True)
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())), f"of {sum(counts.values())}")


if __name__ == "__main__":
    main(sys.argv[1:])
