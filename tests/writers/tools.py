"""What PyTorch's tools make of a written module: torch.fx, TorchScript, torch.export, torch.compile, copy and pickle.

python -m tests.writers.tools REPORT.json [FRAMEWORK...]     every conformance net with every tool; what fails, by tool and net
"""

from __future__ import annotations

import collections
import copy
import importlib
import json
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import converters
from tests.conformance import Case, arrange, cases

Arrays = Sequence[torch.Tensor]


def trace(module: torch.nn.Module, _: Arrays) -> Callable:
    return torch.fx.symbolic_trace(module)


def script(module: torch.nn.Module, _: Arrays) -> Callable:
    return torch.jit.script(module)


def export(module: torch.nn.Module, arrays: Arrays) -> Callable:
    return torch.export.export(module, tuple(arrays)).module()


def compile_whole(module: torch.nn.Module, _: Arrays) -> Callable:
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True, backend="eager", dynamic=False)


def deepcopy(module: torch.nn.Module, _: Arrays) -> Callable:
    return copy.deepcopy(module)


def through_pickle(module: torch.nn.Module, _: Arrays) -> Callable:
    return pickle.loads(pickle.dumps(module))


TOOLS: dict[str, Callable[[torch.nn.Module, Arrays], Callable]] = {
    "fx": trace,
    "script": script,
    "export": export,
    "compile": compile_whole,
    "deepcopy": deepcopy,
    "pickle": through_pickle,
}


def written(case: Case, folder: Path) -> tuple[torch.nn.Module, list[torch.Tensor], str] | None:
    """The module that the written NAME.py builds from the written NAME.pth, its inputs, and its source; None for a case that is refused."""
    folder.mkdir(exist_ok=True)
    shapes = case.shapes()
    try:
        model = converters.load(*case.write_model(folder), inputs=shapes, key=case.about.get("model_at") or None)
        name = f"written_{case.framework}_{case.name}"
        converters.save(model, folder / f"{name}.pth")
    except converters.ConversionError:
        return None
    if not case.pairs():
        return None
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name).build(str(folder / f"{name}.pth"))
    finally:
        sys.path.remove(str(folder))
    arrays = arrange(case.pairs()[0][0], [str(value.name) for value in model.graph.inputs])
    return module, [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays], (folder / f"{name}.py").read_text()


def try_tool(tool: str, module: torch.nn.Module, arrays: Arrays, want: object = None) -> str:
    """What is wrong; empty where the tool takes the module and what it makes gives the same numbers. want: the module's answers."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        want = module(*arrays) if want is None else want
        try:
            got = TOOLS[tool](module, arrays)(*arrays)
        except Exception as problem:
            return f"{type(problem).__name__}: {' '.join(str(problem).split())[:1500]}"
    wants, gots = (value if isinstance(value, tuple) else (value,) for value in (want, got))
    same = len(wants) == len(gots) and all(torch.allclose(w, g, 1e-5, 1e-6, equal_nan=True) for w, g in zip(wants, gots, strict=True))
    return "" if same else "other numbers"


def main(report: str, *frameworks: str) -> None:
    tools = [name for name in frameworks if name in TOOLS] or list(TOOLS)
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    counts: collections.Counter = collections.Counter()
    for framework in [name for name in frameworks if name not in TOOLS] or ("caffe", "torch7", "mxnet"):
        for case in cases(framework):
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = written(case, Path(folder) / "net")
                if made is None:
                    continue
                for tool in tools:
                    problem = try_tool(tool, *made[:2])
                    counts[tool, not problem] += 1
                    if problem:
                        found[tool][str(case)] = problem
    counted = {tool: {"accepted": counts[tool, True], "refused": counts[tool, False]} for tool in tools}
    Path(report).write_text(json.dumps({"counts": counted, "refused": found}, indent=1))
    print(counted)


if __name__ == "__main__":
    main(*sys.argv[1:])
