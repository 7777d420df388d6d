"""Copies of a net as another author would have written it: other names and nesting, registered and run in another order, other numbers.

CONVERTERS_DATA=... python -m tests.matching.copies [NAME ...]     matches a copy, and a spoiled copy, of each net; counts what came of it
"""

from __future__ import annotations

import copy
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn

import converters
from converters.runtimes.compare import random_inputs
from converters.runtimes.torch import call
from tests.conformance import Case, cases
from tests.readers.pytorch import founding
from tests.test_zoo import model_of, nets

DIGITS = Path(__file__).parents[2] / "fixtures" / "digits"
TOLERANCE = 1e-4
"""How far a copy's answers may be from the net's, of the largest number."""


class _Tracer(fx.Tracer):
    """Sees through modules that hold others alone."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children())


def copy_of(module: nn.Module, seed: int) -> tuple[nn.Module, dict[str, str]]:
    """The copy, and which layer of the net each of its layers is."""
    draw = random.Random(seed)
    graph = _Tracer().trace(module)
    owners: dict[str, nn.Module] = {}  # modules that own weights or do something, by their path
    targets: dict[str, str] = {}  # what a node of the graph calls, as it is called in the copy
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op not in ("call_module", "get_attr") or node.target in targets:
            continue
        path = str(node.target) if node.op == "call_module" else str(node.target).rpartition(".")[0]
        if path and path not in owners:
            owners[path] = module.get_submodule(path)
            names[path] = _drawn_name(draw, len(names))
        role = "" if node.op == "call_module" else str(node.target).rpartition(".")[2]
        targets[str(node.target)] = ".".join(filter(None, (names.get(path, ""), role)))
    result = nn.Module()
    numbers = torch.Generator().manual_seed(seed)
    for path, owner in draw.sample(sorted(owners.items()), len(owners)):
        _put(result, names[path], _fresh(owner, numbers))
    for name, parameter in module.named_parameters(recurse=False):
        result.register_parameter(name, nn.Parameter(torch.zeros_like(parameter)))
    for name, buffer in module.named_buffers(recurse=False):
        result.register_buffer(name, buffer.clone(), persistent=name not in module._non_persistent_buffers_set)
    forward = type(fx.GraphModule(result, _shuffled(graph, targets, draw))).forward
    result.__class__ = type("Copy", (nn.Module,), {"forward": forward})
    return result.eval(), {new: old for old, new in names.items()}


def _drawn_name(draw: random.Random, number: int) -> str:
    """Nested or flat, saying nothing of what it is, or something wrong."""
    if draw.random() < 0.6:
        return f"{draw.choice('abcdefgh')}{draw.randrange(3)}x.{draw.choice(['conv', 'bn', 'fc', 'm', 'layer'])}{number}"
    return f"u{draw.randrange(10**6)}_{number}"


def _fresh(module: nn.Module, numbers: torch.Generator) -> nn.Module:
    """The module with other numbers in its weights; constants, which no state_dict holds, are what they were."""
    made = copy.deepcopy(module)
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if name not in made._non_persistent_buffers_set and tensor.is_floating_point():
            with torch.no_grad():
                tensor.copy_(torch.rand(tensor.shape, generator=numbers) * 0.1 + 0.05)
    return made


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = getattr(root, parent)
    root.add_module(last, module)


def _shuffled(graph: fx.Graph, targets: dict[str, str], draw: random.Random) -> fx.Graph:
    """The same graph in another order of execution, calling the copy's modules."""
    nodes = list(graph.nodes)
    order = [node for node in nodes if node.op == "placeholder"]
    done = set(order)
    ready = [node for node in nodes if node.op != "output" and node not in done and all(n in done for n in node.all_input_nodes)]
    while ready:
        node = ready.pop(draw.randrange(len(ready)))
        order.append(node)
        done.add(node)
        free = (user for user in node.users if user.op != "output" and user not in done and user not in ready)
        ready += [user for user in free if all(n in done for n in user.all_input_nodes)]
    made, copies = fx.Graph(), {}
    for node in [*order, nodes[-1]]:
        copies[node] = made.node_copy(node, copies.__getitem__)
        if node.op in ("call_module", "get_attr"):
            copies[node].target = targets[str(node.target)]
    return made


def spoil(module: nn.Module, seed: int) -> str:
    """Lets one layer do something else; says what, or "" where there is none that could."""
    found: list[tuple[nn.Module, str]] = []
    for inner in module.modules():
        if isinstance(inner, nn.Conv2d) and max(inner.kernel_size) > 1 and inner.padding == inner.dilation == inner.stride == (1, 1):
            found.append((inner, "dilation"))
        elif isinstance(inner, nn.BatchNorm2d):
            found.append((inner, "eps"))
        elif isinstance(inner, nn.ReLU):
            found.append((inner, "slope"))
    if not found:
        return ""
    inner, what = random.Random(seed).choice(found)
    if isinstance(inner, nn.Conv2d):
        inner.dilation, inner.padding = (2, 2), (2, 2)
    elif isinstance(inner, nn.BatchNorm2d):
        inner.eps = inner.eps * 30 + 1e-3
    else:
        inner.forward = lambda x: nn.functional.leaky_relu(x, 0.1)  # type: ignore[method-assign]
    return what


# -- the nets ------------------------------------------------------------------------------------------------------------

Load = Callable[[], ir.Model]


def digits() -> Iterator[tuple[str, Load]]:
    """The nets of fixtures/digits."""
    files = {
        "caffe": (["caffe/deploy.prototxt", "caffe/digits.caffemodel"], {}),
        "torch7": (["torch7/digits.t7"], {"": (1, 1, 16, 16)}),
        "mxnet": (["mxnet/digits-symbol.json", "mxnet/digits-0010.params"], {"data": (1, 1, 16, 16)}),
        "pytorch": (["pytorch/digits_whole.pth"], {"": (1, 1, 16, 16)}),
    }
    for name, (paths, inputs) in files.items():
        code = {"code": DIGITS / "pytorch", "trust": True} if name == "pytorch" else {}
        yield f"digits {name}", lambda p=paths, i=inputs, c=code: converters.load(*(DIGITS / file for file in p), inputs=i or None, **c)


def conformance() -> Iterator[tuple[str, Load]]:
    """The small nets of the conformance archives that are built like published ones."""

    def load(case: Case) -> ir.Model:
        with tempfile.TemporaryDirectory() as folder:
            return converters.load(*case.write_model(Path(folder)), inputs=case.shapes(), key=case.about.get("model_at") or None)

    for framework in ("caffe", "torch7", "mxnet"):
        for case in cases(framework):
            if case.name.startswith("net_"):
                yield f"{framework} {case.name}", lambda case=case: load(case)


def modules() -> Iterator[tuple[str, Load]]:
    """torch classes of published structure, by torch's exporter."""
    made: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "ResNet-20": (lambda: founding.CifarResNet(3, 4), (1, 3, 32, 32)),
        "VGG-16": (lambda: founding.GrayVGG16(32), (1, 1, 224, 224)),
        "ResNet-50": (lambda: founding.ResNet50(16), (1, 3, 64, 64)),
        "Inception-v3": (founding.InceptionV3, (1, 3, 96, 96)),
        "Inception-v4": (founding.InceptionV4, (1, 3, 96, 96)),
    }

    def load(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> ir.Model:
        torch.manual_seed(0)
        module = make().eval()
        for inner in module.modules():
            if isinstance(inner, nn.BatchNorm2d):
                assert inner.running_mean is not None and inner.running_var is not None
                inner.running_mean.normal_(0, 0.1)
                inner.running_var.uniform_(0.5, 1.5)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(module, Path(folder, "net.pth"))
            return converters.load(Path(folder, "net.pth"), inputs={"": shape}, code=Path(__file__).parents[2], trust=True)

    for name, (make, shape) in made.items():
        yield f"torch {name}", lambda make=make, shape=shape: load(make, shape)


def zoo() -> Iterator[tuple[str, Load]]:
    """The published nets of $CONVERTERS_DATA/zoo."""
    for folder in nets():
        yield f"{folder.parent.name} {folder.name}", lambda folder=folder: model_of(folder)[0]


# -- the trial -----------------------------------------------------------------------------------------------------------


def try_copy(model: ir.Model, seed: int, *, bad: bool = False) -> tuple[str, float]:
    """What came of it, "right", "refused: ...", "WRONG ..." or "" where nothing can be spoiled; and CPU seconds."""
    module = converters.to_module(model)
    target, names = copy_of(module, seed)
    inputs = [torch.from_numpy(np.asarray(array)) for array in random_inputs(model, seed=5).values()]
    if bad:
        filled = copy.deepcopy(target)
        _fill(filled, module, names)
        before = call(filled, inputs)
        if not spoil(target, seed) or not spoil(filled, seed):
            return "", 0.0
        if max(off(a, b) for a, b in zip(before, call(filled, inputs), strict=True)) < 10 * TOLERANCE:
            return "", 0.0
    begun = time.process_time()
    try:
        found = converters.match(model, target)
    except converters.ConversionError as problem:
        return f"refused: {problem}", time.process_time() - begun
    seconds = time.process_time() - begun
    target.load_state_dict(found.apply(), strict=True)
    worst = max(off(a, b) for a, b in zip(call(module, inputs), call(target, inputs), strict=True))
    return ("right" if worst <= TOLERANCE else f"WRONG, off by {worst:.1e}"), seconds


def off(want: torch.Tensor, got: torch.Tensor) -> float:
    """The largest difference, of the largest number."""
    return float((want - got).abs().max() / want.abs().max().clamp_min(1e-6))


def _fill(target: nn.Module, module: nn.Module, names: dict[str, str]) -> None:
    """Gives a copy the net's own weights."""
    for new, old in names.items():
        target.get_submodule(new).load_state_dict(module.get_submodule(old).state_dict())
    own = {name: tensor for name, tensor in module.state_dict().items() if "." not in name}
    target.load_state_dict(own, strict=False)


def main(*only: str) -> None:
    torch.set_num_threads(1)
    counts: dict[tuple[bool, str], int] = {}
    slowest = 0.0
    for name, load in [*digits(), *conformance(), *modules(), *zoo()]:
        if only and not any(word in name for word in only):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = load()
        for bad in (False, True):
            verdict, seconds = try_copy(model, 1, bad=bad)
            slowest = max(slowest, seconds)
            counts[bad, verdict.split(":")[0].split(",")[0]] = counts.get((bad, verdict.split(":")[0].split(",")[0]), 0) + 1
            if verdict:
                print(f"{name:40} {'spoiled' if bad else 'copy':8} {seconds:5.1f} s  {verdict[:300]}", flush=True)
    for bad in (False, True):
        print("spoiled:" if bad else "copies: ", {verdict: n for (kind, verdict), n in counts.items() if kind is bad and verdict})
    print(f"slowest: {slowest:.1f} CPU seconds; {os.cpu_count()} processors")


if __name__ == "__main__":
    main(*sys.argv[1:])
