"""The test bench of all readers: a row says what is converted, what goes in, and an independent reference that says what comes out.

A row is run in PyTorch and in onnxruntime at the shapes that it declares, at another batch (every axis that the model leaves open has one
entry more), and at other image sizes (every further axis behind the second is longer): right numbers there too, or the runtime's own error
where the reference refuses; never a changed batch. Its random numbers come from a stream of its own, so that a new row changes no other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state

import converters
from converters.graph.passes import counts_uneven_pads, explicit_pooling

torch.set_num_threads(1)

_ORT_ERRORS = [e for e in vars(onnxruntime_pybind11_state).values() if isinstance(e, type) and issubclass(e, Exception)]
REFUSALS = (RuntimeError, ValueError, IndexError, *_ORT_ERRORS)
"""What a runtime says of a size that it can't take."""

ONE_SIZE = frozenset(
    {
        # the source refuses another size, which the formula doesn't
        "LSTMUnit-",
        "Reshape-shape=(-1, 60)",
        "SpatialConvolutionLocal",
        "TemporalRowConvolution",
        "View",
        "View_1_n",
        "Reshape",
        "GramMatrix",
        # the zeros behind the image, the indices of windows, the number of largest steps are those of one size
        "conv-kernel-reaches-over-the-end",
        "Im2col-over-the-end",
        "Pooling-pooling_param { kernel_size: 1 stride: 2 }",
        "cudnn.SoftMax_4d",
        "dynamic_k_max",
    }
)
"""Rows that refuse another image size, though their formula takes it."""

Shape = tuple[int, ...]


class Case(Protocol):
    """A row of a table of layers, modules or operators."""

    @property
    def id(self) -> str:
        """The row's name among all rows of its test."""

    @property
    def shapes(self) -> Sequence[Shape | np.ndarray]:
        """For each input of the graph a shape, to be filled with random numbers, or an array that goes in as it is."""

    @property
    def span(self) -> tuple[float, float]:
        """Between which numbers the random ones lie."""

    @property
    def tolerance(self) -> float: ...

    @property
    def fixed(self) -> bool:
        """The model takes the declared batch alone."""

    @property
    def grows(self) -> bool:
        """The reference holds at another image size, or raises where the source framework would refuse it."""

    def load(self, folder: Path) -> ir.Model:
        """The converted model; the files that it is made of are written to the folder."""

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        """What comes out, in the order of the graph's outputs, by a formula that knows nothing of the lowering."""


def stream(name: str) -> np.random.Generator:
    """Random numbers of a row's own."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(name: str, shapes: Sequence[Shape | np.ndarray], low: float = -2, high: float = 2) -> list[np.ndarray]:
    """Arrays of these shapes with uniform numbers from the stream of that name; arrays stay as they are. All float32."""
    rng = stream(name)
    return [s.astype(np.float32) if isinstance(s, np.ndarray) else rng.uniform(low, high, s).astype(np.float32) for s in shapes]


@dataclass(frozen=True)
class _Trial:
    """The shapes of one run; `must_run`: the runtimes may not refuse them."""

    name: str
    shapes: Sequence[Shape | np.ndarray]
    must_run: bool = True


def check(case: Case, folder: Path) -> None:
    """The graph checker; then every trial in PyTorch and onnxruntime against the reference."""
    model = case.load(folder)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    module = converters.to_module(model)
    with_open_sizes = _opened(proto)
    if onnxruntime.__version__.startswith("1.23.") and any(map(counts_uneven_pads, model.graph)):
        explicit_pooling(model)  # as the writer does, because this version divides by too little; the sizes are in it then
        proto = with_open_sizes = ir.to_proto(model)
    runs: list[tuple[str, Callable[[list[np.ndarray]], list[np.ndarray]], bool]] = [
        ("PyTorch", lambda arrays: _run_torch(module, arrays), True),
        ("onnxruntime", _session(proto), False),
        ("onnxruntime with open sizes", _session(with_open_sizes), with_open_sizes is not proto),
    ]
    for trial in _trials(case, model):
        drawn = zip(draw(case.id, trial.shapes, *case.span), model.graph.inputs, strict=True)
        inputs = [array.astype(value.dtype.numpy()) if value.dtype is not None else array for array, value in drawn]
        wanted = _reference(case, inputs, trial)
        for runtime, run, takes_other_sizes in runs:
            if not trial.must_run and not takes_other_sizes:
                continue  # the declared sizes are in the file: it refuses others itself
            where = f"{runtime}, {trial.name}"
            try:
                found = run(inputs)
            except REFUSALS as problem:
                follows = wanted is not None and case.id not in ONE_SIZE
                assert not trial.must_run and not follows, f"{where}: {problem}"
                continue
            assert wanted is not None, f"{where}: answers {[a.shape for a in found]}, where the source refuses"
            _compare(found, wanted, case.tolerance, where)


def _trials(case: Case, model: ir.Model) -> Iterator[_Trial]:
    """The declared shapes, another batch, another image size."""
    yield _Trial("as declared", case.shapes)
    symbols = [[d if isinstance(d, int) else None for d in v.shape or ()] for v in model.graph.inputs]
    open_axes = [[axis for axis, size in enumerate(dims) if size is None] for dims in symbols]
    given = [shape for shape in case.shapes if not isinstance(shape, np.ndarray)]
    assert case.fixed or not given or not given[0] or any(open_axes), "the batch isn't symbolic"
    if not case.fixed and any(open_axes) and len(given) == len(case.shapes):
        yield _Trial("another batch", [_grown(shape, dict.fromkeys(axes, 1)) for shape, axes in zip(given, open_axes, strict=True)])
    if case.grows and any(len(shape) > 2 for shape in given):
        for more in _GROWTHS:
            larger = [
                shape
                if isinstance(shape, np.ndarray)
                else _grown(shape, {axis: more(axis, size) for axis, size in enumerate(shape) if axis > 1 and axis not in axes})
                for shape, axes in zip(case.shapes, open_axes, strict=True)
            ]
            yield _Trial("another size", larger, must_run=False)


# By how much an image axis grows: windows that just fit at one size don't at the next; twice the size shows what makes images of pixels.
_GROWTHS: tuple[Callable[[int, int], int], ...] = (
    lambda axis, size: 1 + axis % 2,
    lambda axis, size: 2 - axis % 2,
    lambda axis, size: size,
)


def _grown(shape: Shape, more: dict[int, int]) -> Shape:
    return tuple(size + more.get(axis, 0) for axis, size in enumerate(shape))


def _reference(case: Case, inputs: list[np.ndarray], trial: _Trial) -> list[np.ndarray] | None:
    """What must come out; None where the reference refuses another size."""
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(a, np.float32) for a in case.expected(*inputs)]
    except (ValueError, IndexError):
        if trial.must_run:
            raise
        return None


def _compare(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float, where: str) -> None:
    assert [a.shape for a in found] == [a.shape for a in wanted], where
    for position, (got, want) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"{where}, output {position}")


def _run_torch(module: torch.nn.Module, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        answer = module.eval()(*[torch.from_numpy(a.copy()) for a in arrays])
    return [a.detach().numpy() for a in (answer if isinstance(answer, tuple | list) else (answer,))]


def _session(proto: onnx.ModelProto) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def _opened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs take any image size: what a user of the file might make of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis > 1 and dim.HasField("dim_value"):
                dim.dim_param = f"{value.name}_{axis}"
    for value in copy.graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                dim.dim_param = f"{value.name}_{axis}"
    return copy
