"""Reading ONNX files: views of the mapping, external data that stays at home, names of a state_dict, files that are broken on purpose."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ConversionError, FormatError, UnsupportedError
from converters.graph.functions import infer_shapes
from converters.graph.provenance import ORIGINAL_NAME
from converters.options import LoadOptions
from converters.readers.onnx import load
from converters.readers.onnx.wire import split_tensors
from converters.writers.source.writer import to_module, write_source

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes, initializers, *, inputs=(("x", (1, 3, 8, 8)),), outputs=("y",), opset=17, **fields):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **fields)


def conv_model(weight=None, names=("conv.weight", "conv.bias"), **kwargs):
    weight = floats(64, 3, 3, 3) if weight is None else weight
    nodes = [helper.make_node("Conv", ["x", *names], ["y"], name="/conv/Conv")]
    return model_of(nodes, [numpy_helper.from_array(weight, names[0]), numpy_helper.from_array(floats(64), names[1])], **kwargs)


def save(model, folder, name="m.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString() if isinstance(model, onnx.ModelProto) else model)
    return path


def test_large_tensors_are_views_of_the_file(tmp_path):
    weight = floats(64, 3, 3, 3)
    model = load([save(conv_model(weight), tmp_path)])
    read = model.graph.initializers["conv.weight"].const_value.numpy()
    np.testing.assert_array_equal(read, weight)
    base = read
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert isinstance(base, memoryview | type(memoryview(b""))) or type(base).__name__ == "mmap"
    assert not read.flags.writeable
    assert "self.conv = nn.Conv2d(3, 64, 3)" in write_source(model)


def test_float_data_is_a_view_too(tmp_path):
    weight = floats(64, 3, 3, 3)
    proto = conv_model(weight)
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("conv.weight", TensorProto.FLOAT, weight.shape, weight.flatten()))
    model = load([save(proto, tmp_path)])
    read = model.graph.initializers["conv.weight"].const_value.numpy()
    np.testing.assert_array_equal(read, weight)
    assert not read.flags.owndata and not read.flags.writeable


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("conv.weight", "conv.bias"), ["conv.weight", "conv.bias"]),
        (("onnx::Conv_12", "onnx::Conv_13"), ["conv.weight", "conv.bias"]),
        (("W0", "B0"), ["conv.weight", "conv.bias"]),
        (("net/conv_1/kernel:0", "net/conv_1/bias:0"), ["net.conv_1.weight", "net.conv_1.bias"]),
        (("layer..1.weight", "layer..1.bias"), ["layer.1.weight", "layer.1.bias"]),
        (("class.weight", "class.bias"), ["class_.weight", "class_.bias"]),
    ],
)
def test_names_become_keys(names, keys, tmp_path):
    model = load([save(conv_model(names=names), tmp_path)])
    assert list(model.graph.initializers) == keys
    assert list(to_module(model).state_dict()) == keys
    originals = [value.metadata_props.get(ORIGINAL_NAME, key) for key, value in model.graph.initializers.items()]
    assert originals == list(names)


def test_keys_that_collide_get_a_suffix(tmp_path):
    nodes = [
        helper.make_node("Add", ["x", "a"], ["t"]),
        helper.make_node("Add", ["t", "a.b"], ["u"]),
        helper.make_node("Add", ["u", "a/b"], ["y"]),
    ]
    arrays = {"a": floats(8), "a.b": floats(8), "a/b": floats(8)}
    model = load([save(model_of(nodes, [numpy_helper.from_array(v, k) for k, v in arrays.items()]), tmp_path)])
    keys = {value.metadata_props.get(ORIGINAL_NAME, key): key for key, value in model.graph.initializers.items()}
    assert keys["a.b"] == "a.b" and len(set(keys.values())) == 3
    module = to_module(model)
    x = torch.zeros(1, 3, 8, 8)
    np.testing.assert_allclose(module(x).detach().numpy()[0, 0, 0], sum(arrays.values()), rtol=1e-6)


def external(tmp_path, location, *, offset=None, length=None):
    proto = conv_model()
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    folder = tmp_path / "model"
    folder.mkdir()
    return save(proto, folder), data


def test_external_data_beside_the_model(tmp_path):
    path, data = external(tmp_path, "weights/m.bin", offset=16)
    (path.parent / "weights").mkdir()
    (path.parent / "weights" / "m.bin").write_bytes(b"\0" * 16 + data)
    read = load([path]).graph.initializers["conv.weight"].const_value
    assert read.numpy().tobytes() == data and not read.numpy().flags.writeable


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "", "C:\\secret", "a\0b"])
def test_external_data_stays_in_the_folder(location, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 100_000)
    path, _ = external(tmp_path, location)
    with pytest.raises(FormatError, match="external data at"):
        load([path])


def test_external_data_behind_a_link_is_refused(tmp_path):
    path, data = external(tmp_path, "m.bin")
    (tmp_path / "secret").write_bytes(data)
    os.symlink(tmp_path / "secret", path.parent / "m.bin")
    with pytest.raises(FormatError, match="leads out of the model's folder"):
        load([path])


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (2**62, None), (0, 10), (10, None), ("x", None), (0, 2**40)])
def test_external_data_of_the_wrong_size(offset, length, tmp_path):
    path, data = external(tmp_path, "m.bin", offset=offset, length=length)
    (path.parent / "m.bin").write_bytes(data)
    with pytest.raises(FormatError, match=r"conv\.weight"):
        load([path])


def test_missing_external_data_is_named(tmp_path):
    path, _ = external(tmp_path, "m.bin")
    with pytest.raises(FormatError, match=r"'m\.bin' isn't beside the model"):
        load([path])


def broken(change):
    proto = conv_model()
    change(proto)
    return proto


BROKEN = {
    "dims need more": lambda p: p.graph.initializer[0].dims.__setitem__(0, 65),
    "dims are huge": lambda p: p.graph.initializer[0].dims.__setitem__(0, 2**62),
    "dims are negative": lambda p: p.graph.initializer[0].dims.__setitem__(0, -64),
    "unknown element type": lambda p: setattr(p.graph.initializer[0], "data_type", 99),
    "undefined element type": lambda p: setattr(p.graph.initializer[0], "data_type", 0),
    "strings without any": lambda p: setattr(p.graph.initializer[0], "data_type", TensorProto.STRING),
    "two of a name": lambda p: setattr(p.graph.initializer[1], "name", "conv.weight"),
    "no name": lambda p: setattr(p.graph.initializer[1], "name", ""),
    "input of nothing": lambda p: p.graph.node[0].input.__setitem__(0, "nowhere"),
    "no graph": lambda p: p.ClearField("graph"),
    "no opset": lambda p: p.ClearField("opset_import"),
    "unknown operator": lambda p: setattr(p.graph.node[0], "op_type", "Convolve"),
    "an attribute of another type": lambda p: p.graph.node[0].attribute.append(helper.make_attribute("group", "two")),
    "an output twice": lambda p: p.graph.node.append(p.graph.node[0]),
    "small data of the wrong size": lambda p: setattr(p.graph.initializer[1], "raw_data", b"abc"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_broken_models_are_refused(change, tmp_path):
    with pytest.raises(ConversionError, match=r"m\.onnx"):
        load([save(broken(change), tmp_path)])


def test_every_truncation_is_refused_or_read(tmp_path):
    data = conv_model(floats(8, 3, 1, 1), names=("conv.weight", "b")).SerializeToString()
    for end in [*range(1, len(data), 7), len(data) - 1]:
        try:
            load([save(data[:end], tmp_path)])
        except ConversionError:
            continue


def test_every_changed_byte_is_refused_or_read(tmp_path):
    data = bytearray(conv_model(floats(64, 3, 1, 1)).SerializeToString())
    for position in [*range(60), *RNG.integers(0, len(data), 150)]:
        changed = bytearray(data)
        changed[position] ^= int(RNG.integers(1, 256))
        try:
            model = load([save(bytes(changed), tmp_path)])
            to_module(model)
        except ConversionError:
            continue


@pytest.mark.parametrize("data", [b"\x08", b"\x08\xff", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x08\x07\x3b"])
def test_no_protobuf_at_all(data):
    with pytest.raises(FormatError, match=r"m\.onnx"):
        split_tensors(memoryview(data), "m.onnx")


def function_model(bodies, calls):
    """bodies: {name: names of the functions it calls}."""
    proto = model_of([helper.make_node(name, ["x" if i == 0 else f"t{i}"], [f"t{i + 1}"], domain="f") for i, name in enumerate(calls)], [])
    proto.graph.output[0].name = f"t{len(calls)}"
    proto.opset_import.add(domain="f", version=1)
    for name, called in bodies.items():
        nodes = [helper.make_node(other, [f"v{i}"], [f"v{i + 1}"], domain="f" if other in bodies else "") for i, other in enumerate(called)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        proto.functions.append(helper.make_function("f", name, ["v0"], [f"v{len(called)}"], nodes, imports))
    return proto


def test_functions_are_written_out(tmp_path):
    model = load([save(function_model({"A": ["B", "Relu"], "B": ["Neg"]}, ["A", "A"]), tmp_path)])
    assert [node.op_type for node in model.graph] == ["Neg", "Relu"] * 2


def test_functions_that_call_one_another_are_refused(tmp_path):
    with pytest.raises(ConversionError):
        load([save(function_model({"A": ["B"], "B": ["A"]}, ["A"]), tmp_path)])


def test_functions_that_explode_are_refused(tmp_path):
    bodies = {f"F{i}": [f"F{i + 1}"] * 10 for i in range(12)} | {"F12": ["Relu"]}
    with pytest.raises(FormatError, match="come to 1000000000000 nodes"):
        load([save(function_model(bodies, ["F0"]), tmp_path)])


def test_opsets_outside_of_the_range(tmp_path):
    with pytest.raises(UnsupportedError, match="written in opset 99"):
        load([save(conv_model(opset=99), tmp_path)])


def test_an_output_of_another_type_than_its_node_makes_is_refused(tmp_path):
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Add", ["s", "s"], ["y"])]
    model = model_of(nodes, [])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(FormatError, match="output 'y' is stated to be int32, but its node makes int64"):
        load([save(model, tmp_path)])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    assert load([save(model, tmp_path)]).graph.outputs[0].dtype == ir.DataType.INT64


def test_a_monstrous_size_in_a_constant_takes_no_memory(monkeypatch):
    """Following the numbers of shapes, ONNX's inference allocates as many as a constant says."""
    followed = []
    real = onnx.shape_inference.infer_shapes
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda proto, **given: followed.append(given) or real(proto))
    for size in (4, 2**32 + 24, 2**63 - 1):
        target = numpy_helper.from_array(np.array([size]), "target")
        infer_shapes(model_of([helper.make_node("Reshape", ["x", "target"], ["y"])], [target]))
    assert [given["data_prop"] for given in followed if given] == [True, False, True]


def test_a_key_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="holds one model"):
        load([save(conv_model(), tmp_path)], LoadOptions(key="model"))


def test_inputs_are_checked(tmp_path):
    path = save(conv_model(), tmp_path)
    with pytest.raises(ConversionError, match=r"no input is named 'z'; there are x$"):
        load([path], LoadOptions(inputs={"z": (1, 3, 8, 8)}))
    model = load([path], LoadOptions(inputs={"": (1, 3, 9, 9)}))  # the large weight is no input, so that there is one
    assert [value.name for value in model.graph.inputs] == ["x"]
    with pytest.raises(ConversionError, match="has 4 axes"):
        load([path], LoadOptions(inputs={"x": (1, 3)}))


@pytest.mark.parametrize("declared", [None, ["length"]])
def test_a_weight_that_is_an_output_too_has_its_own_shape(declared, tmp_path):
    """The file may say nothing of it, or leave its axes open."""
    model = model_of(
        [helper.make_node("Mul", ["x", "w"], ["y"])], [numpy_helper.from_array(np.arange(3, dtype="f4"), "w")], inputs=[("x", ("n", 3))]
    )
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, declared))
    answers = to_module(load([save(model, tmp_path)]))(torch.ones(2, 3))
    assert [answer.tolist() for answer in answers] == [[[0, 1, 2]] * 2, [0, 1, 2]]


def test_initializers_that_are_inputs_too_are_no_arguments(tmp_path):
    proto = conv_model()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    model = load([save(proto, tmp_path)])
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert len(model.graph.initializers) == 2
