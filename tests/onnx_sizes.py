"""Runs ONNX nets as PyTorch source at another batch and at other sizes: onnxruntime's numbers on the same graph, or an error.

    python -m tests.onnx_sizes [--only softmax] [--folder FOLDER]

The nets are the node tests that ONNX itself ships; --folder: FOLDER/NAME/model.onnx with an input.npz beside it instead. Each is converted
twice: as it is, and with all axes of its inputs open; once all its inputs grow, and once the first alone, the others being weights.
onnxruntime answers for the graph whose inputs have open axes, without optimizations: what it refuses, both conversions have to refuse.
Where it differs from the numbers that ONNX states at the stored sizes, it says nothing of others. Prints for each conversion and trial the
counts of tests.other_sizes.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import converters
from converters.readers.onnx.reader import from_proto
from tests.bench import REFUSALS
from tests.conformance import read_npz
from tests.other_sizes import TRIALS, VERDICTS, Run, answer, asked_for, grown, torch_run, verdict
from tests.readers.onnx import test_backend_cases

Net = tuple[str, onnx.ModelProto, list[np.ndarray]]


def node_tests(only: str) -> Iterator[Net]:
    """ONNX's own, of plain arrays."""
    for case in test_backend_cases.cases():
        if only in case.name and case.data_sets:
            inputs = case.data_sets[0][0]
            if all(isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub" for value in inputs):
                yield case.name, case.model, [np.asarray(value) for value in inputs]


def of_folder(folder: Path, only: str) -> Iterator[Net]:
    """FOLDER/NAME/model.onnx, with its inputs."""
    for path in sorted(folder.glob("*/model.onnx")):
        stored = path.with_name("input.npz")
        if only in path.parent.name and stored.exists():
            model, inputs = onnx.load(path), read_npz(stored.read_bytes())
            weights = {tensor.name for tensor in model.graph.initializer}
            names = [value.name for value in model.graph.input if value.name not in weights]
            if set(names) == set(inputs):
                yield path.parent.name, model, [inputs[name] for name in names]


def opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """With every axis of its inputs open; axes of one length at one place share a name."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.value_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in found.graph.input:
        if value.name not in weights and value.type.HasField("tensor_type"):
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if dimension.HasField("dim_value"):
                    dimension.dim_param = f"axis{axis}_{dimension.dim_value}"
    for value in found.graph.output:
        value.type.tensor_type.ClearField("shape")
    return found


KERNELS = frozenset("Conv ConvTranspose ConvInteger QLinearConv DeformConv Col2Im GRU LSTM RNN NonMaxSuppression".split())
"""Operators whose attributes state a length of another input than the first."""


def weighted(net: Net) -> Net:
    """All inputs but the first are weights."""
    name, model, inputs = net
    found = onnx.ModelProto()
    found.CopyFrom(model)
    names = [value.name for value in model.graph.input][: len(inputs)]
    del found.graph.input[1:]
    found.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in zip(names[1:], inputs[1:], strict=True))
    return f"{name} (weights)", found, inputs[:1]


def variants(nets: Iterator[Net]) -> Iterator[Net]:
    for net in nets:
        alike = len({array.ndim for array in net[2]}) == 1 and not KERNELS & {node.op_type for node in net[1].graph.node}
        if alike or len(net[2]) == 1:
            yield net
        if len(net[2]) > 1 and not net[1].graph.initializer:
            yield weighted(net)


def session_run(model: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # DynamicQuantizeLSTM quantizes the states of each thread's part of the batch
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def source_run(model: onnx.ModelProto, name: str) -> Run | None:
    """The written source; None where the net isn't converted."""
    try:
        return torch_run(from_proto(model, name))
    except converters.ConversionError:
        return None


def trials(net: Net) -> Iterator[tuple[str, str, str, str]]:
    """(conversion, trial, verdict, why) for each run of a net."""
    name, model, inputs = net
    try:
        free = opened(model)
        reference = session_run(free)
    except REFUSALS:  # onnxruntime doesn't run everything
        return
    stored = answer(reference, inputs)
    if isinstance(stored, str):
        return
    rng = np.random.default_rng(5)
    runs = [(word, run) for word, proto in (("as it is", model), ("open", free)) if (run := source_run(proto, name)) is not None]
    if any(verdict(answer(run, inputs), stored, 1e-3)[0] == "wrong" for _, run in runs):  # which is another test's business
        yield "open", "stored", "unlike", ""
        return
    for trial, more in TRIALS.items():
        given = [grown(array, more, rng) for array in inputs]
        if all(a.shape == b.shape for a, b in zip(given, inputs, strict=True)):
            continue
        wanted = answer(reference, given)
        for word, run in runs:
            yield word, trial, *verdict(answer(run, given), wanted, 1e-3)


def count(nets: Sequence[Net] | Iterator[Net]) -> Counter[tuple[str, str, str]]:
    """How often each verdict came, and what isn't right is printed."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for net in nets:
        for conversion, trial, word, why in trials(net):
            counts[conversion, trial, word] += 1
            if word in VERDICTS[2:]:
                print(f"{word}: {net[0]}, {trial}, {conversion}: {' '.join(why.split())[:300]}", flush=True)
    return counts


def main() -> int:
    asked = asked_for(__doc__, "--folder", "nets of one's own, FOLDER/NAME/model.onnx with input.npz")
    warnings.simplefilter("ignore")
    nets = node_tests(asked.only) if asked.folder is None else of_folder(asked.folder, asked.only)
    counts = count(variants(itertools.islice(nets, 0, None, asked.every)))
    print("\n" + " / ".join(VERDICTS))
    for conversion, trial in itertools.product(("as it is", "open"), TRIALS):
        print(f"{conversion:10} {trial:9}", *(f"{counts[conversion, trial, word]:5}" for word in VERDICTS))
    print("where onnxruntime isn't the reference:", counts["open", "stored", "unlike"])
    return int(any(counts[key] for key in counts if key[2] in VERDICTS[3:]))


if __name__ == "__main__":
    sys.exit(main())
