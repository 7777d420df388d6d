"""Runs every converted net at another batch and at other image sizes: the right numbers, or an error.

    python -m tests.other_sizes [--only caffe/pool] [--zoo FOLDER]

A net is converted once, at the shapes of its stored inputs, and run in PyTorch at shapes that it wasn't converted for, and in onnxruntime
at another batch; and once more with all image axes open (`dynamic=`), and run in onnxruntime at other sizes, since a file that declares its
sizes takes no others. The reference is a second conversion, made at that very shape, with nothing left open that could differ; conformance
tests say that such conversions give the frameworks' numbers. What MXNet 1.9.1 itself answers at other sizes is compared in
readers/mxnet/operators/test_archive.py. --zoo: folders FORMAT/NAME of published nets beside the conformance cases.

Prints, for each framework and trial, how many nets were right / refused by both / refused though the framework takes the size / answered
where it refuses / wrong, and names the last three; then how many nets' outputs grow with the batch, and names the others (boxes of priors,
sums over the batch, inputs that are no batch). Exit status 0 if nothing is wrong or answered where the framework refuses.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

import converters
from tests.bench import REFUSALS
from tests.conformance import ARCHIVES, cases, plain, read_npz
from tests.test_zoo import PATTERNS

Shapes = dict[str, tuple[int, ...]]
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

TRIALS: dict[str, Callable[[int, int], int]] = {
    "batch": lambda axis, size: size + (axis == 0),
    "one more": lambda axis, size: size + (axis > 1) * (1 + axis % 2),
    "double": lambda axis, size: size * (1 + (axis > 1)),
    "smaller": lambda axis, size: size - (axis > 1 and size > 4) * 2,
    "both": lambda axis, size: size + (axis == 0) + (axis > 1) * (2 - axis % 2),
}
"""The length of an axis, from the axis and its stored length."""

VERDICTS = ("right", "both refuse", "refused here", "answered here alone", "wrong")


@dataclass(frozen=True)
class Net:
    """A net's files, with the inputs that its framework was given."""

    name: str
    paths: Sequence[Path]
    inputs: dict[str, np.ndarray]
    key: str | None = None
    tolerance: float = 1e-3

    def load(self, shapes: Shapes, dynamic: Mapping[tuple[str, int], str] | None = None) -> ir.Model:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", converters.ConversionWarning)
            return converters.load(*self.paths, inputs=shapes, key=self.key, dynamic=dynamic)


def conformance(only: str, folder: Path) -> Iterator[Net]:
    """The cases that convert."""
    for archive, framework in ARCHIVES.items():
        for case in cases(framework, archive):
            name = f"{archive}/{case.name}"
            if only in name and case.about.get("expect", "convert") != "refuse":
                home = folder / name
                home.mkdir(parents=True)
                yield Net(name, case.write_model(home), read_npz(case.read("input.npz")), case.about.get("model_at") or None)


def published(zoo: Path, only: str) -> Iterator[Net]:
    """The nets of a folder FORMAT/NAME."""
    for stored in sorted(zoo.glob("*/*/input.npz")):
        framework, name = stored.parts[-3:-1]
        inputs = read_npz(stored.read_bytes())
        if only in f"{framework}/{name}" and framework in PATTERNS:
            given = {k: v for k, v in inputs.items() if k != "input2"}
            files = [next(stored.parent.glob(pattern)) for pattern in PATTERNS[framework]]
            yield Net(f"zoo {framework}/{name}", files, given, tolerance=1e-2)


def grown(array: np.ndarray, more: Callable[[int, int], int], rng: np.random.Generator) -> np.ndarray:
    """An array of another shape: numbers between the same limits; whole ones, which may be indices, are those of the array again."""
    shape = tuple(more(axis, size) for axis, size in enumerate(array.shape))
    if shape == array.shape or not array.size:
        return array
    if np.array_equal(array, np.round(array)):
        return np.resize(array, shape)
    finite = array[np.isfinite(array)].astype(np.float64)
    return rng.uniform(finite.min(initial=0), finite.max(initial=0), shape).astype(array.dtype)


def inputs_of(model: ir.Model, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Arrays in the order of the graph's inputs, in their types."""
    near = {plain(name): array for name, array in inputs.items()}
    named = [near.get(plain(str(value.name))) for value in model.graph.inputs]
    found = list(inputs.values()) if any(array is None for array in named) else named
    kinds = [value.dtype.numpy() if value.dtype is not None else np.dtype("f4") for value in model.graph.inputs]
    return [array.astype(kind) for array, kind in zip(found, kinds, strict=True) if array is not None]


def torch_run(model: ir.Model) -> Run:
    module = converters.to_module(model).eval()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            answer = module(*[torch.from_numpy(a.copy()) for a in arrays])
        return [a.detach().numpy() for a in (answer if isinstance(answer, tuple) else (answer,))]

    return run


def onnx_run(model: ir.Model, target: Path) -> Run:
    """The written file in onnxruntime."""
    converters.save(model, target, force=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(target, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def opened(net: Net, model: ir.Model) -> ir.Model:
    """The net with all image axes open. Raises ConversionError where a layer needs their lengths."""
    images = [v for v in model.graph.inputs if v.shape is not None and len(v.shape) > 2]
    dynamic = {(str(v.name), axis): f"{v.name}_{axis}" for v in images for axis in range(2, len(v.shape or ()))}
    return net.load({name: array.shape for name, array in net.inputs.items()}, dynamic)


def refused(problem: Exception) -> Run:
    """A run that always says the same."""

    def run(_: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise ValueError(str(problem))

    return run


def answer(run: Run, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | str:
    """What comes out, or why nothing does."""
    try:
        return run(arrays)
    except REFUSALS as problem:
        return f"{type(problem).__name__}: {problem}".replace("\n", " ")


def differences(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float) -> str:
    """The first difference in words; nothing where all is right."""
    shapes = [a.shape for a in found], [a.shape for a in wanted]
    if shapes[0] != shapes[1]:
        return f"shapes {shapes[0]}, wanted {shapes[1]}"
    for position, (got, want) in enumerate(zip(found, wanted, strict=True)):
        near = tolerance / 10 * max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))) if want.dtype.kind == "f" else 0
        if not np.allclose(got, want, rtol=tolerance, atol=near, equal_nan=True):
            return f"output {position} differs"
    return ""


def verdict(found: list[np.ndarray] | str, wanted: list[np.ndarray] | str, tolerance: float) -> tuple[str, str]:
    """One of VERDICTS, and why."""
    if isinstance(found, str):
        return ("both refuse", found) if isinstance(wanted, str) else ("refused here", found)
    if isinstance(wanted, str):
        return "answered here alone", f"{[a.shape for a in found]}, the reference: {wanted}"
    words = differences(found, wanted, tolerance)
    return ("wrong", words) if words else ("right", "")


def trials(net: Net, folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """(runtime, trial, verdict, why) for each run of a net."""
    try:
        model = net.load({name: array.shape for name, array in net.inputs.items()})
    except converters.ConversionError:
        return  # what can't be converted is another test's business
    module, batches = torch_run(model), onnx_run(model, folder / "batch.onnx")
    stored = answer(module, inputs_of(model, net.inputs))
    try:
        images = onnx_run(opened(net, model), folder / "images.onnx")
    except (converters.ConversionError, *REFUSALS) as problem:
        images = refused(problem)
    rng = np.random.default_rng(7)
    for trial, more in TRIALS.items():
        inputs = {name: grown(array, more, rng) for name, array in net.inputs.items()}
        shapes = {name: array.shape for name, array in inputs.items()}
        if all(shapes[name] == array.shape for name, array in net.inputs.items()):
            continue
        wanted = reference(net, shapes, inputs)
        for runtime, run in (("torch", module), ("onnx", batches if trial == "batch" else images)):
            found = answer(run, inputs_of(model, inputs))
            yield runtime, trial, *verdict(found, wanted, net.tolerance)
            if trial == "batch" and runtime == "torch" and isinstance(stored, list) and isinstance(found, list):
                yield runtime, trial, *batches_of(net, stored, found)


def batches_of(net: Net, stored: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> tuple[str, str]:
    """Whether each output's first axis grew as the inputs' did, by one item; where it did not, somebody looks at the net."""
    items = next(array.shape[0] for array in net.inputs.values() if array.ndim)
    grew = [
        b.ndim and b.shape[1:] == a.shape[1:] and b.shape[0] * items == a.shape[0] * (items + 1) for a, b in zip(stored, found, strict=True)
    ]
    return ("batch kept", "") if all(grew) else ("batch unlike", f"{[a.shape for a in stored]} became {[a.shape for a in found]}")


def reference(net: Net, shapes: Shapes, inputs: dict[str, np.ndarray]) -> list[np.ndarray] | str:
    """What a conversion at this very shape answers, or why there is none."""
    try:
        model = net.load(shapes)
    except converters.ConversionError as problem:
        return str(problem)
    return answer(torch_run(model), inputs_of(model, inputs))


def asked_for(about: str | None, folder: str, what: str) -> argparse.Namespace:
    """The options of a sweep. about: its docstring. folder: the option that names a folder of nets; what: what lies there."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="nets whose name holds this (of conformance cases FRAMEWORK/NAME)")
    parser.add_argument(folder, type=Path, help=what)
    parser.add_argument("--every", type=int, default=1, help="each N-th of them alone")
    torch.set_num_threads(1)
    return parser.parse_args()


def main() -> int:
    asked = asked_for(__doc__, "--zoo", "a folder of published nets, run instead of the conformance cases")
    counts: Counter[tuple[str, str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        nets = conformance(asked.only, folder) if asked.zoo is None else published(asked.zoo, asked.only)
        for net in itertools.islice(nets, 0, None, asked.every):
            for runtime, trial, word, why in trials(net, folder):
                counts[net.name.split("/")[0], runtime, trial, word] += 1
                if word in (*VERDICTS[2:], "batch unlike"):
                    print(f"{word}: {net.name}, {trial}, {runtime}: {why[:300]}", flush=True)
    print("\n" + " / ".join(VERDICTS))
    for framework, runtime in sorted({key[:2] for key in counts}):
        for trial in TRIALS:
            print(f"{framework:16} {runtime:6} {trial:9}", *(f"{counts[framework, runtime, trial, word]:5}" for word in VERDICTS))
        kept, unlike = (counts[framework, runtime, "batch", word] for word in ("batch kept", "batch unlike"))
        if kept or unlike:
            print(f"{framework:16} the batch of all outputs is that of the inputs: {kept}, unlike it: {unlike}")
    return int(any(counts[key] for key in counts if key[3] in VERDICTS[3:]))


if __name__ == "__main__":
    sys.exit(main())
