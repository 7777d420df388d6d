"""What the benchmarks measure on: files of a given size in every format, made for the run, and the digits nets of fixtures/."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SIDE = 1024
"""Numbers in a row of a layer: 4 MB of float32 for each."""


def _layers(megabytes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(max(1, megabytes * 1_000_000 // (4 * SIDE * SIDE)))]


def caffe(folder: Path, megabytes: int) -> list[str]:
    """InnerProducts in a row."""
    from tests.readers.caffe.wire import caffemodel

    text = [f'name: "large" input: "data" input_shape {{ dim: 1 dim: {SIDE} }}']
    weights = _layers(megabytes)
    for n in range(len(weights)):
        bottom = f"fc{n - 1}" if n else "data"
        numbers = f"inner_product_param {{ num_output: {SIDE} bias_term: false }}"
        text.append(f'layer {{ name: "fc{n}" type: "InnerProduct" bottom: "{bottom}" top: "fc{n}" {numbers} }}')
    (folder / "large.prototxt").write_text("\n".join(text))
    (folder / "large.caffemodel").write_bytes(caffemodel({f"fc{n}": [array] for n, array in enumerate(weights)}))
    return ["large.prototxt", "large.caffemodel"]


def torch7(folder: Path, megabytes: int) -> list[str]:
    """nn.Linear in a row."""
    from tests.readers.torch7.lua import dumps, module

    layers = [module("nn.Linear", weight=array, bias=np.zeros(SIDE, np.float32)) for array in _layers(megabytes)]
    (folder / "large.t7").write_bytes(dumps(module("nn.Sequential", *layers)))
    return ["large.t7", "--input", f"1x{SIDE}"]


def mxnet(folder: Path, megabytes: int) -> list[str]:
    """FullyConnected in a row."""
    from tests.readers.mxnet.wire import params

    nodes = [{"op": "null", "name": "data", "inputs": []}]
    weights = _layers(megabytes)
    for n in range(len(weights)):
        nodes.append({"op": "null", "name": f"fc{n}_weight", "inputs": []})
        attributes = {"num_hidden": str(SIDE), "no_bias": "True"}
        inputs = [[len(nodes) - 2, 0, 0], [len(nodes) - 1, 0, 0]]
        nodes.append({"op": "FullyConnected", "name": f"fc{n}", "attrs": attributes, "inputs": inputs})  # type: ignore[dict-item]
    heads = [[len(nodes) - 1, 0, 0]]
    (folder / "large-symbol.json").write_text(json.dumps({"nodes": nodes, "arg_nodes": [], "heads": heads}))
    params(folder / "large-0000.params", {f"arg:fc{n}_weight": array for n, array in enumerate(weights)})
    return ["large-symbol.json", "large-0000.params", "--input", f"data=1x{SIDE}"]


def onnx(folder: Path, megabytes: int) -> list[str]:
    """MatMul in a row."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = _layers(megabytes)
    nodes = [helper.make_node("MatMul", [f"y{n - 1}" if n else "data", f"fc{n}.weight"], [f"y{n}"]) for n in range(len(weights))]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", SIDE]) for name in ("data", f"y{len(weights) - 1}")]
    held = [numpy_helper.from_array(array, f"fc{n}.weight") for n, array in enumerate(weights)]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], held)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "large.onnx")
    return ["large.onnx"]


def checkpoint(folder: Path, megabytes: int, form: str) -> list[str]:
    """A pickled nn.Sequential. form: zip or stream."""
    import torch

    path = folder / f"{form}.pth"
    layers = []
    for array in _layers(megabytes):
        layer = torch.nn.Linear(SIDE, SIDE, bias=False)
        layer.weight.data = torch.from_numpy(array)
        layers.append(layer)
    torch.save(torch.nn.Sequential(*layers), path, _use_new_zipfile_serialization=form == "zip")
    return [path.name]


LARGE = {"caffe": caffe, "lua": torch7, "mxnet": mxnet, "onnx": onnx}
"""Word of the commands -> what makes a large input of theirs."""
