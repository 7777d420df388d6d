"""Nets that grow, in every format and five shapes: what a conversion takes must follow the number of their layers.

- chain: n layers in a row;
- wide: n layers that take the input, and one that takes them all;
- in place: n pairs of a layer and an activation in its place, as the formats that know such a thing have it;
- dense: a chain whose values all stay alive, until one layer at the end takes them all;
- tied: a chain whose layers all have the same weights;
- outputs: as wide, without the last layer: every layer is an output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SHAPES = ("chain", "wide", "in place", "dense", "tied", "outputs")
WEIGHT = np.eye(4, dtype=np.float32)
BIAS = np.zeros(4, np.float32)


def steps(shape: str, count: int) -> Iterator[tuple[str, str, str]]:
    """(name, what it takes, the owner of its weights) of each layer with weights; "data" is the input."""
    for i in range(count):
        before = "data" if shape in ("wide", "outputs") or not i else f"t{i - 1}"
        yield f"t{i}", before, "t0" if shape == "tied" else f"t{i}"


def joined(shape: str, count: int) -> list[str]:
    """The layers that the last one takes; none where the last of the chain is the output."""
    return [f"t{i}" for i in range(count)] if shape in ("wide", "dense") else []


def caffe(folder: Path, shape: str, count: int) -> list[str]:
    """Convolutions of 1 x 1, ReLUs in place, an Eltwise sum."""
    from tests.readers.caffe.wire import caffemodel

    parts = ['name: "growing" input: "data" input_shape { dim: 1 dim: 4 dim: 2 dim: 2 }']
    for name, before, owner in steps(shape, count):
        shared = f' param {{ name: "{owner}_w" }} param {{ name: "{owner}_b" }}' if shape == "tied" else ""
        convolution = "convolution_param { num_output: 4 kernel_size: 1 }"
        parts.append(f'layer {{ name: "{name}" type: "Convolution" bottom: "{before}" top: "{name}"{shared} {convolution} }}')
        if shape == "in place":
            parts.append(f'layer {{ name: "{name}r" type: "ReLU" bottom: "{name}" top: "{name}" }}')
    if bottoms := " ".join(f'bottom: "{name}"' for name in joined(shape, count)):
        parts.append(f'layer {{ name: "all" type: "Eltwise" {bottoms} {bottoms if count == 1 else ""} top: "all" }}')
    (folder / "net.prototxt").write_text("\n".join(parts))
    (folder / "net.caffemodel").write_bytes(caffemodel({f"t{i}": [WEIGHT.reshape(4, 4, 1, 1), BIAS] for i in range(count)}))
    return ["net.prototxt", "net.caffemodel"]


def torch7(folder: Path, shape: str, count: int) -> list[str]:
    """Linear layers, ReLUs in place, a CAddTable; dense: blocks in blocks, as deep as a reader's stack may be asked to go."""
    from tests.readers.torch7.lua import dumps, module

    tensors = WEIGHT.copy(), BIAS.copy()
    made = [module("nn.Linear", weight=tensors[0] if shape == "tied" else WEIGHT.copy(), bias=BIAS.copy()) for _ in range(count)]
    if shape == "wide":
        net = module("nn.Sequential", module("nn.ConcatTable", *made), module("nn.CAddTable"))
    elif shape == "outputs":
        net = module("nn.ConcatTable", *made)
    elif shape == "in place":
        net = module("nn.Sequential", *(part for layer in made for part in (layer, module("nn.ReLU", inplace=True, threshold=0, val=0))))
    elif shape == "dense":  # each block adds what came in to what its layer makes of it
        blocks = [module("nn.Sequential", module("nn.ConcatTable", layer, module("nn.Identity")), module("nn.CAddTable")) for layer in made]
        net = module("nn.Sequential", *blocks)
    else:
        net = module("nn.Sequential", *made)
    (folder / "model.t7").write_bytes(dumps(net))
    return ["model.t7", "--input", "2x4"]


def mxnet(folder: Path, shape: str, count: int) -> list[str]:
    """FullyConnected layers and add_n."""
    from tests.readers.mxnet.wire import params

    nodes: list[dict[str, object]] = []
    ids: dict[str, int] = {}

    def add(op: str, name: str, *inputs: str, **attributes: object) -> None:
        attrs = {key: str(value) for key, value in attributes.items()}
        nodes.append({"op": op, "name": name, "attrs": attrs, "inputs": [[ids[i], 0, 0] for i in inputs]})
        ids[name] = len(nodes) - 1

    add("null", "data")
    for name, before, owner in steps(shape, count):
        for role in ("weight", "bias"):
            if f"{owner}_{role}" not in ids:
                add("null", f"{owner}_{role}")
        add("FullyConnected", name, before, f"{owner}_weight", f"{owner}_bias", num_hidden=4)
    names = joined(shape, count)
    if names:
        add("add_n", "all", *names, num_args=len(names))
    heads = [[ids[f"t{i}"], 0, 0] for i in range(count)] if shape == "outputs" else [[len(nodes) - 1, 0, 0]]
    document = {"nodes": nodes, "arg_nodes": [i for i, n in enumerate(nodes) if n["op"] == "null"], "heads": heads}
    (folder / "net-symbol.json").write_text(json.dumps({**document, "attrs": {"mxnet_version": ["int", 10901]}}))
    arrays = {f"arg:{name}": WEIGHT if name.endswith("weight") else BIAS for name in ids if name.endswith(("_weight", "_bias"))}
    params(folder / "net-0000.params", arrays)
    return ["net-symbol.json", "net-0000.params", "--input", "data=2x4"]


def onnx(folder: Path, shape: str, count: int) -> list[str]:
    """Gemm and Sum."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes, tensors = [], {}
    for name, before, owner in steps(shape, count):
        tensors |= {f"{owner}.weight": WEIGHT, f"{owner}.bias": BIAS}
        nodes.append(helper.make_node("Gemm", [before, f"{owner}.weight", f"{owner}.bias"], [name], name=name, transB=1))
    if names := joined(shape, count):
        nodes.append(helper.make_node("Sum", names, ["all"], name="all"))
    outputs = [node.output[0] for node in (nodes if shape == "outputs" else nodes[-1:])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("data", *outputs)]
    held = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "growing", values[:1], values[1:], held)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return ["model.onnx"]


def tensorflow(folder: Path, shape: str, count: int) -> list[str]:
    """MatMul, BiasAdd and AddN in a frozen graph; a SavedModel, whose signature names them, where there are many outputs."""
    from converters.schemas import tensorflow_pb2 as pb

    from tests.readers.tensorflow.operator_case import node

    graph, kind, made = pb.GraphDef(), np.dtype("float32"), set()
    node(graph, "data", "Placeholder", dtype=kind, shape=(None, 4))
    for name, before, owner in steps(shape, count):
        if owner not in made:
            node(graph, f"{owner}/weight", "Const", dtype=kind, value=WEIGHT)
            node(graph, f"{owner}/bias", "Const", dtype=kind, value=BIAS)
            made.add(owner)
        node(graph, f"{name}/product", "MatMul", before, f"{owner}/weight", T=kind)
        node(graph, name, "BiasAdd", f"{name}/product", f"{owner}/bias", T=kind)
    if names := joined(shape, count):
        node(graph, "all", "AddN", *names, T=kind, N=len(names))
    if shape != "outputs":
        (folder / "graph.pb").write_bytes(graph.SerializeToString())
        return ["graph.pb"]
    saved = pb.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add(graph_def=graph)
    meta.meta_info_def.tags.append("serve")
    signature = meta.signature_def["serving_default"]
    signature.inputs["data"].name = "data:0"
    for i in range(count):
        signature.outputs[f"t{i}"].name = f"t{i}:0"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return ["saved_model.pb"]


def module_file(folder: Path, shape: str, count: int) -> list[str]:
    """A pickled nn.Sequential; in place: with activations that work in place; tied: one weight. wide and dense: a state_dict."""
    import torch

    one = torch.nn.Linear(1, 1)
    if shape in ("wide", "dense"):
        whole = torch.zeros(2 * count)  # wide: tensors of their own; dense: all of one storage
        parts = [whole[i : i + 2] if shape == "dense" else torch.zeros(2) for i in range(count)]
        torch.save({f"t{i}": part for i, part in enumerate(parts)}, folder / "model.pth")
        return ["model.pth"]
    layers = [one if shape == "tied" else torch.nn.Linear(1, 1) for _ in range(count)]
    if shape == "in place":
        layers = [part for layer in layers for part in (layer, torch.nn.ReLU(inplace=True))]
    torch.save(torch.nn.Sequential(*layers), folder / "model.pth")
    return ["model.pth"]


Maker = Callable[[Path, str, int], list[str]]
CELLS: dict[str, tuple[Maker, str]] = {
    "caffe2torch": (caffe, "out.pth"),
    "caffe2onnx": (caffe, "out.onnx"),
    "lua2torch": (torch7, "out.pth"),
    "lua2onnx": (torch7, "out.onnx"),
    "mxnet2torch": (mxnet, "out.pth"),
    "mxnet2onnx": (mxnet, "out.onnx"),
    "onnx2torch": (onnx, "out.pth"),
    "tf2torch": (tensorflow, "out.pth"),
    "tf2onnx": (tensorflow, "out.onnx"),
    "strip-to-weights": (module_file, "out.safetensors"),
}
"""Command -> what makes its input, and what it writes."""


def measured(command: str, shape: str) -> bool:
    """Whether the format has such a net: MXNet, ONNX and TensorFlow compute nothing in place; weights alone have no outputs."""
    if shape == "in place":
        return CELLS[command][0] in (caffe, torch7, module_file)
    return shape != "outputs" or CELLS[command][0] is not module_file
