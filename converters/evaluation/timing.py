"""How fast models are: forward, and for PyTorch backward, of several artefacts and engines in turn, with what each layer costs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from converters import packages
from converters.errors import ConversionError, printable
from converters.evaluation.model import ENGINES, Source, check_engine, load_source
from converters.graph.costs import Costs, costs
from converters.graph.names import Names
from converters.options import DEFAULTS, InputSpec, LoadOptions

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]


@dataclass
class Timing:
    """One model in one engine. step: "forward" or "backward". batch: items at once. seconds: of each run, after warm-up."""

    model: str
    engine: str
    device: str
    step: str
    batch: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of a run, half of them took less."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The seconds between which the middle half of the runs lies."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON: seconds for one item."""
        low, high = self.spread
        named = {name: getattr(self, name) for name in ("model", "engine", "device", "step", "batch")}
        share = {"median": self.median / self.batch, "low": low / self.batch, "high": high / self.batch}
        return {**named, "runs": len(self.seconds), "seconds_per_item": share}


@dataclass
class Benchmark:
    """timings: of each model, engine and step. costs: parameters and multiply-adds by model, where there is a graph to count them."""

    timings: list[Timing] = field(default_factory=list)
    costs: dict[str, Costs] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        counted = {name: cost.as_dict() for name, cost in self.costs.items()}
        return {"timings": [timing.as_dict() for timing in self.timings], "costs": counted}

    def __str__(self) -> str:
        """A table in Markdown, a row for each timing."""
        rows = [["model", "engine", "step", "ms/item", "middle half", "items/s", "parameters", "multiply-adds"]]
        rows.append(["---"] * 3 + ["---:"] * 5)
        for timing in self.timings:
            cost = self.costs.get(timing.model)
            low, high = (f"{1000 * second / timing.batch:.2f}" for second in timing.spread)
            engine = timing.engine if timing.device == "cpu" else f"{timing.engine} ({timing.device})"
            speed = timing.batch / timing.median
            counts = ["", ""] if cost is None else [_millions(cost.parameters), _millions(cost.multiply_adds)]
            times = [f"{1000 * timing.median / timing.batch:.2f}", f"{low}-{high}", f"{speed:.1f}"]
            rows.append([printable(timing.model), engine, timing.step, *times, *counts])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _millions(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e6:,.2f}M" if count >= 1e5 else f"{count:,}"


@dataclass
class _Runner:
    """What is run, one step after another, and where each one's seconds go."""

    steps: Callable[[], dict[str, float]]
    timings: dict[str, Timing]


def benchmark(
    models: Mapping[str, Source],
    options: LoadOptions = DEFAULTS,
    *,
    engines: Sequence[str] = ENGINES,
    batch: int = 1,
    runs: int = 20,
    warmup: int = 3,
    backward: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Benchmark:
    """Times models on random numbers, in turn: a slow moment of the machine meets all of them.

    models: by the name that they shall have in the table. options: how they are read, with the shapes of inputs. engines: "onnxruntime",
    "torch"; a .pth with its .py runs in torch. batch: items at once. runs: how often each is timed, after `warmup` runs that aren't.
    backward: time the gradient too, in torch. threads: of the engines. device: "cpu" or "cuda". Raises ConversionError.
    """
    if runs < 1 or batch < 1 or warmup < 0:
        raise ConversionError("a benchmark needs at least one run of one item")
    for engine in engines:
        check_engine(engine)
    found = Benchmark()
    runners: list[_Runner] = []
    for name, source in models.items():
        loaded = load_source(source, options)
        if isinstance(loaded, onnx_ir.Model):
            arrays = _inputs(loaded, options.shapes, batch, seed)
            found.costs[name] = costs(loaded, {key: _of_one(loaded, key, array.shape) for key, array in arrays.items()})
        else:
            arrays = {key: _drawn((batch, *shape[1:]), np.dtype(np.float32), seed) for key, shape in options.shapes.items()}
            if not arrays:
                raise ConversionError(f"{printable(name)}: a module doesn't say what it takes", hint="--input 1x3x224x224")
        for engine in engines:
            if isinstance(loaded, onnx_ir.Model) or engine == "torch":
                steps = ("forward", "backward") if backward and engine == "torch" else ("forward",)
                made = {step: Timing(name, engine, device, step, batch) for step in steps}
                runners.append(_Runner(_run_in(engine, loaded, arrays, threads, device, backward), made))
                found.timings += made.values()
    if not runners:
        raise ConversionError("nothing can be timed: a .pth with its .py runs in torch")
    for turn in range(-warmup, runs):
        for runner in runners:
            for step, seconds in runner.steps().items():
                if turn >= 0:
                    runner.timings[step].seconds.append(seconds)
    return found


def names_of(models: Sequence[Source]) -> list[str]:
    """Names for a table: that of a model's last file, or of its graph; with a number where two are alike."""
    names = Names()
    found = []
    for source in models:
        if isinstance(source, onnx_ir.Model):
            found.append(names.free(source.graph.name or "model"))
        else:
            found.append(names.free(Path(source if isinstance(source, str | os.PathLike) else source[-1]).name))
    return found


def _inputs(model: onnx_ir.Model, shapes: Mapping[str, InputSpec], batch: int, seed: int) -> dict[str, Array]:
    """Random arrays for the inputs, with so many items where the first axis is open."""
    values = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    arrays = {}
    for value in values:
        given = shapes.get(str(value.name), shapes.get("") if len(values) == 1 else None)
        dims = [d if isinstance(d, int) else None for d in value.shape] if value.shape is not None else []
        if given is not None:
            dims = [size if size is not None else int(other) for size, other in zip(dims, given, strict=False)]  # type: ignore[call-overload]
        if value.shape is not None and dims and not isinstance(value.shape[0], int):
            dims[0] = batch
        if value.dtype is None or value.shape is None or None in dims:
            words = f"the size of the input '{printable(value.name)}' isn't known"
            raise ConversionError(words, hint="give it with --input NAME=1x3x224x224")
        if dims[:1] != [batch] and batch > 1:
            raise ConversionError(f"the input '{printable(value.name)}' takes batches of {dims[0] if dims else 1} alone")
        arrays[str(value.name)] = _drawn([size for size in dims if size is not None], value.dtype.numpy(), seed)
    return arrays


def _of_one(model: onnx_ir.Model, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape for one item; the whole one where the model takes no other."""
    value = next(value for value in model.graph.inputs if value.name == name)
    is_open = value.shape is not None and len(value.shape) > 0 and not isinstance(value.shape[0], int)
    return (1, *shape[1:]) if is_open else tuple(shape)


def _drawn(shape: Sequence[int], kind: np.dtype[Any], seed: int) -> Array:
    numbers = np.random.default_rng(seed).standard_normal(tuple(shape))
    return numbers.astype(kind) if np.issubdtype(kind, np.floating) else np.ones(tuple(shape), kind)


def _run_in(
    engine: str, loaded: onnx_ir.Model | torch.nn.Module, arrays: Mapping[str, Array], threads: int | None, device: str, backward: bool
) -> Callable[[], dict[str, float]]:
    if engine == "torch" or not isinstance(loaded, onnx_ir.Model):
        return _torch(loaded, arrays, threads, device, backward)
    from converters.runtimes.onnxruntime import open_feed
    from converters.writers.onnx.writer import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_onnx(loaded, path)
        run = open_feed(path, threads=threads, cuda=device == "cuda")
    return lambda: {"forward": _timed(lambda: run(arrays))}


def _timed(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _torch(
    loaded: onnx_ir.Model | torch.nn.Module, arrays: Mapping[str, Array], threads: int | None, device: str, backward: bool
) -> Callable[[], dict[str, float]]:
    packages.require("torch")
    import torch

    from converters.writers.source.writer import to_module

    if device == "cuda" and not torch.cuda.is_available():
        raise ConversionError("there is no CUDA device here", hint="use the device cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    module = (to_module(loaded) if isinstance(loaded, onnx_ir.Model) else loaded).to(device)
    items = [torch.from_numpy(array).to(device) for array in arrays.values()]

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> Any:
        answer = module(*items)
        wait()
        return answer

    def both() -> dict[str, float]:
        begun = time.perf_counter()
        answer = forward()
        middle = time.perf_counter()
        parts = answer if isinstance(answer, tuple | list) else [answer]
        torch.stack([part.sum() for part in parts if part.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
        wait()
        found = {"forward": middle - begun, "backward": time.perf_counter() - middle}
        module.zero_grad(set_to_none=True)
        return found

    def alone() -> dict[str, float]:
        with torch.inference_mode():
            return {"forward": _timed(forward)}

    return both if backward else alone
