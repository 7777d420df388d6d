"""Whole-model files to the graph: rebuilt from a closed list, nothing run without trust, and the module's own numbers."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib
import io
import logging
import operator
import os
import pickle
import re
import sys
import textwrap
import types
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import converters
from converters.errors import ConversionError, UnsupportedError
from converters.options import LoadOptions
from converters.tracing.export import load
from converters.tracing.program import export_module
from converters.tracing.rebuild import LAYERS
from converters.trust import Code

torch.manual_seed(0)


def seq(*layers):
    return nn.Sequential(*layers)


def settled(module):
    """Statistics that tell a careless conversion apart."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    return module.eval()


IMAGE, SEQUENCE, FLAT, VOLUME = (2, 4, 12, 12), (2, 4, 11), (2, 6), (2, 4, 6, 6, 6)
LAYER_CASES = {
    "Conv1d": (nn.Conv1d(4, 6, 3, 2, 1, 2, bias=False), SEQUENCE),
    "Conv2d": (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2), IMAGE),
    "Conv2d reflect": (nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), IMAGE),
    "Conv2d same": (nn.Conv2d(4, 6, 4, padding="same"), IMAGE),
    "Conv3d": (nn.Conv3d(4, 2, 3), VOLUME),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3, 2), SEQUENCE),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2), IMAGE),
    "ConvTranspose3d": (nn.ConvTranspose3d(4, 2, 3, 2), VOLUME),
    "Linear": (nn.Linear(6, 3), FLAT),
    "Linear of images": (nn.Linear(12, 3), IMAGE),
    "BatchNorm1d": (nn.BatchNorm1d(6), FLAT),
    "BatchNorm2d": (nn.BatchNorm2d(4, eps=1e-3), IMAGE),
    "BatchNorm2d plain": (nn.BatchNorm2d(4, affine=False), IMAGE),
    "InstanceNorm2d": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "LayerNorm": (nn.LayerNorm((12, 12)), IMAGE),
    "GroupNorm": (nn.GroupNorm(2, 4), IMAGE),
    "LocalResponseNorm": (nn.LocalResponseNorm(3), IMAGE),
    "MaxPool1d": (nn.MaxPool1d(3, 2, 1, ceil_mode=True), SEQUENCE),
    "MaxPool2d": (nn.MaxPool2d(3, 2, 1, 2), IMAGE),
    "AvgPool2d": (nn.AvgPool2d(3, 2, 1, True, False), IMAGE),
    "AvgPool3d": (nn.AvgPool3d(3, 2, 1, True), VOLUME),
    "LPPool2d": (nn.LPPool2d(2, 3, 2), IMAGE),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    "AdaptiveAvgPool2d one": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d(4), IMAGE),
    "ReflectionPad2d": (nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    "ReplicationPad2d": (nn.ReplicationPad2d(2), IMAGE),
    "ZeroPad2d": (nn.ZeroPad2d((1, -1, 2, 0)), IMAGE),
    "ConstantPad2d": (nn.ConstantPad2d(1, 0.5), IMAGE),
    "Upsample nearest": (nn.Upsample(scale_factor=2), IMAGE),
    "Upsample bilinear": (nn.Upsample(size=(17, 5), mode="bilinear", align_corners=True), IMAGE),
    "Upsample bicubic": (nn.Upsample(scale_factor=1.5, mode="bicubic"), IMAGE),
    "PixelShuffle": (nn.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": (nn.PixelUnshuffle(2), IMAGE),
    "Flatten": (seq(nn.Flatten(), nn.Linear(44, 2)), SEQUENCE),
    "Unflatten": (nn.Unflatten(1, (2, 2)), IMAGE),
    "Dropout": (seq(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout()), IMAGE),
    "PReLU": (nn.PReLU(4), IMAGE),
    "PReLU one": (nn.PReLU(), IMAGE),
    "RReLU": (nn.RReLU(), IMAGE),
    "Softmax": (nn.Softmax(1), IMAGE),
    "LogSoftmax": (nn.LogSoftmax(1), IMAGE),
    "Softmin": (nn.Softmin(1), IMAGE),
    "GLU": (nn.GLU(1), IMAGE),
    "Threshold": (nn.Threshold(0.1, 20), IMAGE),
    "Hardtanh": (nn.Hardtanh(-0.5, 2), IMAGE),
    "activations 1": (seq(nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.Softplus(), nn.Softsign()), IMAGE),
    "activations 2": (seq(nn.LeakyReLU(), nn.SiLU(), nn.Mish(), nn.Tanhshrink(), nn.Hardswish(), nn.LogSigmoid()), IMAGE),
    "activations 3": (seq(nn.Softshrink(0.1), nn.Tanh(), nn.Hardshrink(0.2), nn.Sigmoid(), nn.ReLU6(), nn.Softmax2d()), IMAGE),
    "activations 4": (seq(nn.Identity(), nn.Hardsigmoid(), nn.ReLU(True)), IMAGE),
    "LSTM": (nn.LSTM(11, 5, 2, bidirectional=True, batch_first=True), SEQUENCE),
    "GRU": (nn.GRU(11, 5, batch_first=True), SEQUENCE),
}


def export(path, **options):
    return load([path], LoadOptions(**options))


def through_a_file(module, folder, **options):
    path = folder / "whole.pth"
    torch.save(module, path, **options)
    return path


@pytest.mark.parametrize("name", LAYER_CASES)
def test_layers(name, tmp_path):
    """A pickle of one torch.nn module: rebuilt without its constructor, exported, the same numbers in onnxruntime."""
    module, shape = LAYER_CASES[name]
    module = settled(module)
    x = torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.no_grad():
            want = module(x)
        model = export(through_a_file(module, tmp_path), inputs={"": shape})
    want = want[0] if isinstance(want, tuple) else want
    converters.save(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def net():
    torch.manual_seed(1)
    return settled(
        seq(
            seq(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True)),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(128, 5),
        )
    )


def test_keys_stay_and_the_batch_is_free(tmp_path):
    model = export(through_a_file(net(), tmp_path), inputs={"": (1, 3, 8, 8)})
    assert set(model.graph.initializers) == {key for key in net().state_dict() if not key.endswith("num_batches_tracked")}
    assert str(model.graph.inputs[0].shape[0]) == "N"
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), net()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["zip", "stream", "checkpoint", "parallel"])
def test_forms(form, tmp_path):
    module, key = net(), None
    if form == "checkpoint":
        path = tmp_path / "checkpoint.pth.tar"
        torch.save({"epoch": 3, "model": module, "optimizer": {"state": {}}}, path)
    else:
        held = nn.DataParallel(module) if form == "parallel" else module
        path = through_a_file(held, tmp_path, _use_new_zipfile_serialization=form != "stream")
    model = export(path, inputs={"": (2, 3, 8, 8)}, key=key)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), net()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "missing", ["padding_mode", "_reversed_padding_repeated_twice", "_non_persistent_buffers_set", "_is_full_backward_hook"]
)
def test_old_modules_get_what_they_lack(missing, tmp_path):
    module = net()
    for part in module.modules():
        part.__dict__.pop(missing, None)
    export(through_a_file(module, tmp_path), inputs={"": (1, 3, 8, 8)})


def test_pools_of_the_oldest_torch(tmp_path):
    pool = nn.AvgPool2d(3)
    for name in ("ceil_mode", "count_include_pad", "divisor_override"):
        pool.__dict__.pop(name, None)
    export(through_a_file(pool, tmp_path), inputs={"": (1, 3, 8, 8)})


class Canary:
    """A pickle that makes a file when it is loaded as pickle loads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


CODE = """
import torch
from torch import nn

open(CANARY, "w").close()

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3)
        self.scale = 2.0
        self.kinds = [("a", 1), ("b", 2)]

    def forward(self, x):
        return self.first(x) * self.scale + len(self.kinds)

def small():
    return Net(4)
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A folder with code whose import leaves a file, and a checkpoint of a model made of it."""
    folder, canary = tmp_path / "code", tmp_path / "canary"
    folder.mkdir()
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(textwrap.dedent(CODE).replace("CANARY", repr(str(canary))))
    monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module(name)
    built = module.small().eval()
    torch.save(built, tmp_path / "whole.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in built.state_dict().items()}, "epoch": 1}, tmp_path / "weights.pth.tar")
    monkeypatch.undo()
    sys.modules.pop(name)
    canary.unlink()
    return tmp_path, folder, canary, name, built


def test_without_trust_nothing_runs(own_code):
    root, folder, canary, name, _ = own_code
    for options in ({}, {"code": folder}, {"trust": True}):
        with pytest.raises(UnsupportedError, match=rf"{name}\.Net.*--code DIR --trust"):
            export(root / "whole.pth", inputs={"": (1, 3, 8, 8)}, **options)
    for options in ({}, {"code": folder}, {"trust": True}):
        with pytest.raises(UnsupportedError, match=r"--code DIR --trust"):
            export(root / "weights.pth.tar", inputs={"": (1, 3, 8, 8)}, factory=f"{name}:small", **options)
    assert not canary.exists()


@pytest.mark.parametrize("file", ["whole.pth", "weights.pth.tar"])
def test_with_trust_the_message_names_what_runs(own_code, file):
    root, folder, canary, name, built = own_code
    said = []
    factory = f"{name}:small" if file == "weights.pth.tar" else None
    model = export(root / file, inputs={"x": (1, 3, 8, 8)}, code=folder, trust=True, factory=factory, notify=said.append)
    assert canary.exists() and len(said) == 1
    assert (factory or f"{name}.Net") in said[0] and str(folder) in said[0]
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), built(x))


class Calls:
    """An object that a pickle makes by calling something."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function",
    [os.system, os.popen, eval, exec, getattr, functools.partial],
    ids=lambda f: f.__name__,
)
def test_with_trust_a_pickle_still_runs_nothing_of_its_own(own_code, function):
    """The folder's code is trusted, and not what the file would have called with it."""
    root, folder, canary, _, built = own_code
    command = f"open({str(canary)!r}, 'w')"
    given = {
        "system": [f"touch {canary}"],
        "popen": [f"touch {canary}"],
        "getattr": [built, "__class__"],
        "partial": [os.system, f"touch {canary}"],
    }.get(function.__name__, [command])
    with code_at(built):
        built.note = Calls(function, *given)
        torch.save(built, root / "hostile.pth")
    canary.unlink(missing_ok=True)
    with pytest.raises(UnsupportedError, match=r"the file (names|would have)"):
        export(root / "hostile.pth", inputs={"x": (1, 3, 8, 8)}, code=folder, trust=True)
    assert canary.read_bytes() == b""  # which the folder's code itself leaves
    del built.note


@pytest.mark.parametrize(
    ("module", "name"), [("types", "FunctionType"), ("subprocess", "Popen"), ("torch", "os"), ("torch", "os.system"), ("ctypes", "CDLL")]
)
def test_names_that_no_pickle_is_given(module, name):
    with pytest.raises(UnsupportedError, match="which no net has need of"):
        Code(None).named(module, name)


HOSTILE = {
    "a function of a package": ("torch.hub", "load"),
    "a loader": ("torch", "load"),
    "a program": ("torch.jit", "load"),
    "a compiler": ("torch.utils.cpp_extension", "load"),
    "a library": ("torch.ops", "load_library"),
    "a file that grows": ("torch", "from_file"),
    "arrays' loader": ("numpy", "load"),
    "arrays in files": ("numpy", "memmap"),
    "a folder that is removed": ("numpy.lib.npyio", "DataSource"),
    "another package": ("numpy", "savetxt"),
    "pip": ("pip._internal", "main"),
    "a package's program": ("pip.__main__", "sys"),
    "a module that does things": ("antigravity", "webbrowser"),
    "importlib": ("importlib", "import_module"),
    "dots": ("torch.nn.functional", "importlib.import_module"),
    "code": ("types", "CodeType"),
    "builtins": ("builtins", "eval"),
    "compile": ("builtins", "compile"),
    "methods by name": ("operator", "methodcaller"),
    "attributes by name": ("operator", "attrgetter"),
    **({"calls": ("operator", "call")} if hasattr(operator, "call") else {}),  # from Python 3.11 on
    "calls of a row": ("itertools", "starmap"),
    "an open file": ("argparse", "FileType"),
    "a folder for a while": ("tempfile", "TemporaryDirectory"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_pickle_is_given(what):
    code = Code(None)
    code._packages.add("torch")
    with pytest.raises(UnsupportedError, match="which no net has need of"):
        code.named(*HOSTILE[what])


def test_importing_is_refused_before_it_happens():
    sys.modules.pop("antigravity", None)
    with pytest.raises(UnsupportedError, match="which no net has need of"):
        Code(None).module_class("antigravity", "fly")
    assert "antigravity" not in sys.modules


class Plain:
    """A class of the tests' own package, which no module of a file is of."""

    def __new__(cls, *given):
        raise AssertionError("made")


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (Plain, ("a",), "have .*Plain called"),
        (np.random.RandomState.__reduce__(np.random.RandomState())[0], ("MT19937", os.system), "have numpy.random._pickle"),
        (getattr, (torch._C._VariableFunctions, "from_file"), "have builtins.getattr"),
        (torch.nn.functional.relu, (1,), "have torch.nn.functional.relu"),
    ],
    ids=["class", "numpy", "getattr", "mathematics"],
)
def test_what_a_pickle_may_not_have_called(function, given, words):
    with pytest.raises(UnsupportedError, match=words):
        Code(None).make(function, given, {})


@pytest.mark.parametrize(
    "made",
    [
        functools.partial(torch.load, "a"),
        functools.partial(nn.Sequential, torch.hub.load),
        collections.defaultdict(os.getcwd),
        functools.partial(getattr, nn.ReLU(), "forward"),
    ],
)
def test_what_is_held_to_be_called_later(made):
    with pytest.raises(UnsupportedError, match=r"would have .* called"):
        Code(None).check(made)


def test_functions_of_the_packages_that_modules_are_of():
    """What moves with a model: its package's own functions, and layers that are made later."""
    code = Code(None)
    with pytest.raises(UnsupportedError, match="which no net has need of"):
        code.named("tests.readers.pytorch.test_export_places", "same")
    code.module_class("tests.readers.pytorch.test_export_places", "Called")
    assert code.named("tests.readers.pytorch.test_export_places", "same") is not None
    code.check(functools.partial(nn.LayerNorm, eps=1e-6))
    code.check(functools.partial(nn.init.normal_, std=0.02))
    code.check(collections.defaultdict(list))


def test_with_trust_harmless_objects_are_given_back(own_code):
    root, folder, _, _, built = own_code
    with code_at(built):
        built.log, built.pattern, built.options = logging.getLogger("net"), re.compile("a+"), argparse.Namespace(width=4)
        built.act, built.half, built.path, built.again = torch.relu, functools.partial(round, ndigits=1), Path("a"), built.forward
        built.bytes, built.kinds, built.absent = io.BytesIO(), collections.defaultdict(list), dataclasses.MISSING
        built.scalar, built.array, built.chance = np.float32(2), np.ones(2), np.random.RandomState(0)
        torch.save(built, root / "rich.pth")
    model = export(root / "rich.pth", inputs={"x": (1, 3, 8, 8)}, code=folder, trust=True)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), built(x))


@contextlib.contextmanager
def code_at(built):
    """Lets what is pickled find the model's class, for the block."""
    name = type(built).__module__
    sys.modules[name] = made = types.ModuleType(name)
    made.Net = type(built)
    try:
        yield
    finally:
        sys.modules.pop(name)


def test_weights_that_do_not_fit_are_refused(own_code):
    root, folder, _, name, built = own_code
    torch.save({"first.weight": built.first.weight}, root / "part.pth")
    with pytest.raises(ConversionError, match=r"don't fit .*first\.bias"):
        export(root / "part.pth", inputs={"x": (1, 3, 8, 8)}, code=folder, trust=True, factory=f"{name}:small")


@pytest.mark.parametrize("where", ["attribute", "child", "root", "beside"])
def test_hostile_pickles_never_run(where, tmp_path):
    canary = tmp_path / "canary"
    module = net()
    root = module
    if where == "attribute":
        module.note = Canary(canary)
    elif where == "child":
        module._modules["0"]._modules["9"] = Canary(canary)
    elif where == "beside":
        root = {"model": module, "note": Canary(canary)}
    else:
        root = Canary(canary)
    path = tmp_path / "hostile.pth"
    torch.save(root, path)
    for options in ({}, {"code": tmp_path, "trust": True}):
        try:
            export(path, inputs={"": (1, 3, 8, 8)}, **options)
        except ConversionError:
            continue
    assert not canary.exists()


STRANGE = {
    "_parameters": [],
    "_buffers": 3,
    "_modules": "text",
    "_forward_hooks": [1],
    "_non_persistent_buffers_set": 7,
    "stride": {"a": 1},
    "kernel_size": "3",
    "in_channels": None,
    "padding_mode": "none of these",
    "training": "yes",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_attributes_are_errors_of_ours(name, tmp_path):
    module = nn.Conv2d(3, 4, 3)
    path = tmp_path / "strange.pth"
    module.__dict__[name] = STRANGE[name]
    torch.save(module, path)
    try:
        export(path, inputs={"": (1, 3, 8, 8)})
    except ConversionError:
        return
    assert name in ("in_channels", "training", "kernel_size")  # nothing that the forward looks at


def test_a_plain_pickle_is_no_checkpoint(tmp_path):
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ConversionError):
        export(path, inputs={"": (1, 3)})
    assert not (tmp_path / "canary").exists()


def double(module, arguments):
    return (arguments[0] * 2,)


def test_hooks_of_ones_own_are_refused(tmp_path):
    module = nn.Linear(6, 3)
    module.register_forward_pre_hook(double)
    with pytest.raises(UnsupportedError, match=r"a hook of its own .*double|a hook of its own"):
        export(through_a_file(seq(module), tmp_path), inputs={"": FLAT})


@pytest.mark.parametrize("norm", ["spectral_norm", "weight_norm"])
def test_norms_of_weights_become_weights(norm, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = seq(getattr(nn.utils, norm)(nn.Conv2d(4, 6, 3)), nn.ReLU(), getattr(nn.utils, norm)(nn.Conv2d(6, 2, 1)))
        module(torch.randn(IMAGE))
        module.eval()
        x = torch.randn(IMAGE)
        with torch.no_grad():
            want = module(x)
        model = export(through_a_file(module, tmp_path), inputs={"": IMAGE})
    assert set(model.graph.initializers) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), want, rtol=1e-4, atol=1e-5)


def test_script_needs_trust(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(net(), torch.randn(2, 3, 8, 8)), path)
    with pytest.raises(UnsupportedError, match="a TorchScript archive is a program"):
        export(path, inputs={"": (1, 3, 8, 8)})
    said = []
    model = export(path, inputs={"": (1, 3, 8, 8)}, trust=True, notify=said.append)
    assert said == [f"{path}: running the TorchScript program in it"]
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converters.to_module(model)(x), net()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "give the shape of input: --input input=1x3x224x224"),
        ({"y": (1, 3, 8, 8)}, "the model's input is named input, not y"),
        ({"": (1, 3, 8, 8), "y": (1,)}, "isn't one of its inputs"),
        ({"": (1, 4, 8, 8)}, "doesn't run on inputs of"),
    ],
)
def test_inputs_are_checked(inputs, words, tmp_path):
    with pytest.raises(ConversionError, match=words):
        export(through_a_file(net(), tmp_path), inputs=inputs)


def test_an_export_that_differs_is_refused(monkeypatch):
    module = net()
    real = torch.onnx.export

    def wrong(*args, **kwargs):
        program = real(*args, **kwargs)
        for value in program.model.graph.initializers.values():
            if str(value.name).endswith("3.bias"):
                value.const_value = converters_tensor(value.const_value.numpy() + 1)
        return program

    def converters_tensor(array):
        import onnx_ir

        return onnx_ir.Tensor(array)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(ConversionError, match="differs once exported"):
        export_module(module, {"": (1, 3, 8, 8)}, "f.pth")


def test_the_list_holds_only_classes_of_torch():
    for name in LAYERS:
        # the last two are of torch's older releases or its insides
        assert hasattr(nn, name) or name in ("NonDynamicallyQuantizableLinear", "RMSNorm", "_LinearWithBias")


def test_a_convolution_without_bias_gets_none():
    """torch.onnx gives it one of zeros, which no state_dict has."""
    model = export_module(seq(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval(), {"": (1, 3, 8, 8)}, "f.pth")
    assert [len(node.inputs) for node in model.graph if node.op_type == "Conv"] == [2]
    assert [key for key in model.graph.initializers if "bias" in key] == ["1.bias"]


def test_nothing_that_torch_onnx_makes_becomes_a_weight():
    """An instance norm's ones and zeros: the module has no such parameters, and its layers are what they were."""
    layers = (nn.Conv2d(3, 80, 3, bias=False), nn.InstanceNorm2d(80), nn.InstanceNorm2d(80, eps=1e-4, affine=True), nn.Conv2d(80, 2, 1))
    module = settled(seq(*layers, nn.ConvTranspose2d(2, 2, 3, bias=False)))
    model = export_module(module, {"": (1, 3, 8, 8)}, "net.pth")
    assert list(model.graph.initializers) == list(module.state_dict())
    written = converters.to_module(model)
    kinds = [nn.Conv2d, nn.Identity, nn.InstanceNorm2d, nn.Conv2d, nn.ConvTranspose2d]
    assert [type(written.get_submodule(str(number))) for number in range(5)] == kinds
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(written(x), module(x), atol=1e-6)
