"""The options of strip-to-weights: key, unwrap, strip-prefix, dtype, fold, contiguous, source, safetensors."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parametrizations

from converters import strip_to_weights
from converters.errors import ConversionError, ConversionWarning, OutputExistsError, UnsupportedError
from converters.strip import default_target
from tests.readers.pytorch import classes
from tests.readers.pytorch.test_strip import compare, save, strip

A, B = {"w": torch.ones(2), "b": torch.zeros(1)}, {"w": torch.zeros(3), "b": torch.zeros(1)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

# A checkpoint, the key asked for, and the part that is expected.
CHOICES: dict[str, tuple[Any, str | None, Any]] = {
    "bare": (A, None, A),
    "imagenet": ({"epoch": 3, "state_dict": A, "best_acc1": torch.tensor(0.5), "optimizer": OPTIMIZER}, None, A),
    "with average": ({"state_dict": A, "ema_state_dict": B, "optimizer": OPTIMIZER}, None, A),
    "average asked for": ({"state_dict": A, "ema_state_dict": B}, "ema_state_dict", B),
    "only average": ({"model_ema": B, "optimizer": OPTIMIZER}, None, B),
    "unusual name": ({"autoencoder": A, "step": 1}, None, A),
    "nested": ({"state": {"model": A}, "optim": OPTIMIZER}, None, A),
    "dotted key": ({"a": {"b": A, "c": B}}, "a.c", B),
    "key with a dot": ({"a.b": A, "a": B}, "a.b", A),
    "number as key": ({0: A, 1: B}, "1", B),
    "list": ([A, OPTIMIZER], None, A),
    "list index": ([A, B], "1", B),
    "inside the key": ({"first": {"state_dict": A}, "second": {"state_dict": B}}, "second", B),
    "criterion beside": ({"model": A, "criterion": {"a": torch.ones(1), "b": torch.ones(1)}}, None, A),
    "list of tensors": ([torch.ones(2), torch.zeros(1)], None, {"0": torch.ones(2), "1": torch.zeros(1)}),
    "tensor": (torch.ones(3), None, {"tensor": torch.ones(3)}),
    "same twice": ({"model": A, "net": A}, None, A),
    "mean beside": ({"mean": torch.ones(3), "std": torch.ones(3), "state_dict": A}, None, A),
    "counter beside an unusual name": ({"generator": A, "step": torch.tensor(3)}, None, A),
    "tensor beside a usual name": ({"model": A, "queue": torch.ones(4, 2)}, None, A),
    "average of an unusual name": ({"generator": A, "generator_ema": B}, None, A),
    "moments beside weights": ({**A, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}, None, A),
    "velocity beside weights": ({**A, "velocity": torch.ones(2)}, None, A),
    "a layer called velocity": ({**A, "velocity": torch.ones(5)}, None, {**A, "velocity": torch.ones(5)}),
    "velocities": ({"net": A, "velocity": B, "exp_avg": B}, None, A),
    "three deep": ({"run": {"best": {"net": A}}, "step": 1}, None, A),
    "all of several": (
        {"encoder": {"conv": A}, "decoder": B, "scale": torch.ones(1), "optimizer": OPTIMIZER},
        "*",
        {"encoder.conv.w": A["w"], "encoder.conv.b": A["b"], "decoder.w": B["w"], "decoder.b": B["b"], "scale": torch.ones(1)},
    ),
    "all of a list below a key": ({"parts": [A, B]}, "parts.*", {"0.w": A["w"], "0.b": A["b"], "1.w": B["w"], "1.b": B["b"]}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choice(name: str, tmp_path: Path) -> None:
    checkpoint, key, expected = CHOICES[name]
    for form in ("zip", "stream"):
        compare(strip(save(checkpoint, tmp_path / f"{form}.pth", form), key=key), expected)


def test_model_and_its_own_state_dict_are_no_choice(tmp_path: Path) -> None:
    model = classes.Net()
    compare(strip(save({"model": model, "state_dict": model.state_dict()}, tmp_path / "m.pth")), model.state_dict())


def test_extra_state_is_left_out_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match="_extra_state' is no tensor"):
        compare(strip(save({**A, "_extra_state": {"step": 3}}, tmp_path / "m.pth")), A)


def test_submodule_by_key(tmp_path: Path) -> None:
    model = classes.Net()
    compare(strip(save({"trainer": classes.Trainer(model)}, tmp_path / "m.pth"), key="trainer.model.head"), model.head.state_dict())
    compare(strip(tmp_path / "m.pth"), model.state_dict())


REFUSED: dict[str, tuple[Any, str | None, str]] = {
    "two networks": ({"netG": A, "netD": B}, None, "--key netG"),
    "usual name and another": ({"model": A, "discriminator": B}, None, "--key discriminator"),
    "two models": ({"g": classes.Net(), "d": classes.Net()}, None, "--key d"),
    "different depths": ({"G": A, "D": {"main": B}}, None, r"--key D .*(?s:.*)--key '\*'"),
    "a part of one tensor": ({"encoder": A, "embedding": {"w": torch.ones(2)}}, None, "--key embedding "),
    "a list beside a part": ({"layers": [A, B], "head": B}, None, "--key layers "),
    "tensors of its own beside a part": ({"layer": A, "scale": torch.ones(3)}, None, r"1 tensor beside them \(scale\)"),
    "flat and nested": ({"encoder.weight": torch.ones(2), "decoder": A}, None, "--key decoder "),
    "several below the key": ({"nets": {"a": A, "b": B}}, "nets", r"--key nets\.a "),
    "several averages": ({"ema_a": A, "ema_b": B}, None, "--key ema_b "),
    "only an optimizer": ({"optimizer": OPTIMIZER}, None, "no weights"),
    "an optimizer itself": (OPTIMIZER, None, "an optimizer's state"),
    "only moments": ({"exp_avg": torch.ones(2)}, None, "an optimizer's moments"),
    "empty": ({}, None, "no weights"),
    "text": ("hello", None, "no weights"),
    "nothing": (None, None, "no weights"),
    "no parameters": (nn.Sequential(nn.ReLU()), None, "no parameters"),
    "absent key": ({"state_dict": A}, "model", "there is: state_dict"),
    "key too deep": ({"state_dict": A}, "state_dict.w.x", "no 'x' in 'state_dict.w'"),
    "lazy": (nn.LazyLinear(3), None, "never initialized"),
    "meta": (nn.Linear(2, 2, device="meta"), None, "no numbers"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_says_why(name: str, tmp_path: Path) -> None:
    checkpoint, key, words = REFUSED[name]
    path = save(checkpoint, tmp_path / "m.pth")
    with pytest.raises(ConversionError, match=words) as caught:
        strip_to_weights(path, key=key)
    assert caught.value.path == str(path) and str(caught.value).startswith(f"{path}: ")
    assert [file.name for file in tmp_path.iterdir()] == ["m.pth"]


def test_unwrap_takes_the_wrapper_s_node_away(tmp_path: Path) -> None:
    model = classes.Net()
    wrapped = nn.Sequential(OrderedDict(module=nn.DataParallel(model), other=nn.Linear(1, 1)))
    got = strip(save(wrapped, tmp_path / "m.pth"), unwrap=True)
    plain = nn.Sequential(OrderedDict(module=model, other=wrapped.other))
    compare(got, plain.state_dict())
    compare(strip(save(nn.DataParallel(model), tmp_path / "n.pth"), unwrap=True), model.state_dict())
    compare(strip(save(nn.DataParallel(model).state_dict(), tmp_path / "s.pth"), unwrap=True), model.state_dict())


def test_unwrap_without_a_wrapper_warns(tmp_path: Path) -> None:
    for thing in (classes.Net(), classes.Net().state_dict()):
        with pytest.warns(ConversionWarning, match="no"):
            assert "conv.weight" in strip(save(thing, tmp_path / "m.pth"), unwrap=True)


UNWRAPPED: dict[str, tuple[list[str], list[str], list[str]]] = {
    "twice": (["module.module.a.w", "module.module.b"], ["a.w", "b"], ["module", "module.module"]),
    "a part": (["head.w", "body.module.0.w"], ["head.w", "body.0.w"], ["body.module"]),
    "compiled": (["module._orig_mod.w"], ["w"], ["module", "module._orig_mod"]),
    "sharded": (
        ["_fsdp_wrapped_module.a._fsdp_wrapped_module.w", "_fsdp_wrapped_module.b._checkpoint_wrapped_module.w"],
        ["a.w", "b.w"],
        ["_fsdp_wrapped_module", "_fsdp_wrapped_module.a._fsdp_wrapped_module", "_fsdp_wrapped_module.b._checkpoint_wrapped_module"],
    ),
    "a tensor called module": (["module.w", "x.module"], ["w", "x.module"], ["module"]),
}


@pytest.mark.parametrize("name", UNWRAPPED)
def test_unwrap_of_bare_dictionaries(name: str, tmp_path: Path) -> None:
    names, expected, levels = UNWRAPPED[name]
    path = save({name: torch.full((2,), float(i)) for i, name in enumerate(names)}, tmp_path / "m.pth")
    report = strip_to_weights(path, tmp_path / "out.pth", unwrap=True)
    got = torch.load(report.path, weights_only=True)
    assert list(got) == expected and [int(tensor[0]) for tensor in got.values()] == list(range(len(names)))
    assert report.unwrapped == levels and f"unwrapped: {levels[0]}" in str(report)


def test_unwrap_refuses_names_that_meet(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="would both be called 'w'"):
        strip(save({"module.w": A["w"], "w": A["w"]}, tmp_path / "m.pth"), unwrap=True)


def test_prefixes_are_pointed_out(tmp_path: Path) -> None:
    def hint(names: list[str], **options: Any) -> str:
        return strip_to_weights(save(dict.fromkeys(names, A["w"]), tmp_path / "m.pth"), force=True, **options).hint

    assert hint(["module.a.w", "module.b"]) == "every name begins with 'module.', a wrapper's; --unwrap takes it away"
    assert hint(["a.w", "b.module.w"]) == "names begin with 'b.module.', a wrapper's; --unwrap takes it away"
    assert hint(["model.a.w", "model.b"]) == "every name begins with 'model.'; --strip-prefix model. takes it off"
    assert not hint(["model.a.w", "model.b"], strip_prefix="model")
    assert not hint(["a.w", "b.w"]) and not hint(["fc.weight", "fc.bias"]) and not hint(["module.w"], unwrap=True)


def test_strip_prefix(tmp_path: Path) -> None:
    model = classes.Net()
    outer = nn.Sequential(OrderedDict(model=model))
    path = save(outer.state_dict(), tmp_path / "m.pth")
    compare(strip(path, strip_prefix="model."), model.state_dict())
    compare(strip(path, strip_prefix="model"), model.state_dict())
    assert list(strip(save({"enc_w": A["w"], "b": A["b"]}, tmp_path / "t.pth"), strip_prefix="enc_")) == ["w", "b"]
    with pytest.raises(ConversionError, match="no name begins with"):
        strip(path, strip_prefix="net.")
    with pytest.raises(ConversionError, match="both be called 'w'"):
        strip(save({"a.w": A["w"], "w": A["w"]}, tmp_path / "c.pth"), strip_prefix="a.")
    with pytest.raises(ConversionError, match="would have none"):
        strip(save({"w": A["w"], "v": A["w"]}, tmp_path / "d.pth"), strip_prefix="w")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_dtype(name: str, tmp_path: Path) -> None:
    state = {
        "w": torch.randn(300, 500),
        "i": torch.arange(3),
        "d": torch.randn(4, dtype=torch.float64),
        "t": torch.randn(3, 4).t(),
        "b": torch.randn(3, dtype=torch.bfloat16),
        "n": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    state["row"] = state["w"][7]
    want = {key: tensor.to(getattr(torch, name)) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    got = strip(save(state, tmp_path / "m.pth"), dtype=name)
    assert list(got) == list(want)
    for key, tensor in want.items():
        assert got[key].dtype == tensor.dtype
        assert torch.equal(got[key].nan_to_num(), tensor.nan_to_num())
    assert got["row"].untyped_storage().data_ptr() == got["w"].untyped_storage().data_ptr()


def test_overflow_in_float16_warns(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match="1 number"):
        assert strip(save({"w": torch.tensor([1e6, 1.0])}, tmp_path / "m.pth"), dtype="float16")["w"][0] == float("inf")


def test_contiguous(tmp_path: Path) -> None:
    base = torch.randn(6, 700, 90)
    state = {
        "t": base.transpose(0, 2),
        "part": base[2:4],
        "same": base.transpose(0, 2),
        "e": torch.ones(1).expand(5),
        "flags": torch.tensor([1j]).conj(),
    }
    got = strip(save(state, tmp_path / "m.pth"), contiguous=True)
    for key, tensor in state.items():
        assert torch.equal(got[key], tensor) and got[key].is_contiguous() and not got[key].is_conj()
    assert got["part"].untyped_storage().nbytes() == got["part"].nbytes
    assert got["same"].untyped_storage().data_ptr() == got["t"].untyped_storage().data_ptr()


# -- folding: a model, and the same model in eval mode without the reparametrisation


def spectral(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    layer = torch.nn.utils.spectral_norm(layer)
    for _ in range(3):
        layer(torch.randn(shape))
    return layer.eval()


def new_spectral(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    layer = parametrizations.spectral_norm(layer)
    for _ in range(3):
        layer(torch.randn(shape))
    return layer.eval()


class SpectralNorm(nn.Module):
    """The wrapper that carries weight_bar, weight_u and weight_v as parameters of the layer inside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        weight = module._parameters.pop("weight")
        assert weight is not None
        module.weight_u = nn.Parameter(torch.randn(weight.shape[0]), requires_grad=False)
        module.weight_v = nn.Parameter(torch.randn(weight[0].numel()), requires_grad=False)
        module.weight_bar = nn.Parameter(weight.data)

    def forward(self, x: torch.Tensor) -> Any:
        bar = self.module.weight_bar
        sigma = self.module.weight_u.dot(bar.reshape(bar.shape[0], -1).mv(self.module.weight_v))  # type: ignore[operator, union-attr]
        self.module.weight = bar / sigma  # type: ignore[operator]
        return self.module(x)


FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "spectral_norm": (lambda: spectral(nn.Conv2d(2, 3, 2), (1, 2, 4, 4)), (1, 2, 4, 4)),
    "spectral_norm, transposed": (lambda: spectral(nn.ConvTranspose2d(4, 3, 2), (1, 4, 4, 4)), (1, 4, 4, 4)),
    "spectral_norm, square": (lambda: spectral(nn.Conv2d(3, 3, 2), (1, 3, 4, 4)), (1, 3, 4, 4)),
    "spectral_norm, transposed and square": (lambda: spectral(nn.ConvTranspose2d(3, 3, 2), (1, 3, 4, 4)), (1, 3, 4, 4)),
    "spectral_norm, linear": (lambda: spectral(nn.Linear(3, 3), (1, 3)), (1, 3)),
    "weight_norm": (lambda: torch.nn.utils.weight_norm(nn.Conv1d(2, 3, 2)), (1, 2, 4)),
    "weight_norm, dim 1": (lambda: torch.nn.utils.weight_norm(nn.Linear(3, 2), dim=1), (1, 3)),
    "weight_norm, whole": (lambda: torch.nn.utils.weight_norm(nn.Linear(3, 2), dim=None), (1, 3)),
    "weight_norm, lstm": (lambda: torch.nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), (2, 1, 3)),
    "wrapper": (lambda: SpectralNorm(nn.Conv2d(2, 3, 2)), (1, 2, 4, 4)),
    "wrapper in a network": (lambda: nn.Sequential(SpectralNorm(nn.Linear(3, 4)), nn.ReLU(), SpectralNorm(nn.Linear(4, 2))), (1, 3)),
    "plain": (lambda: nn.Linear(3, 2), (1, 3)),
}


def plain_like(module: nn.Module) -> nn.Module:
    """The same network without what --fold takes away."""
    if isinstance(module, SpectralNorm):
        return plain_like(module.module)
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*(plain_like(child) for child in module))
    if isinstance(module, nn.ReLU):
        return nn.ReLU()
    if isinstance(module, nn.LSTM):
        return nn.LSTM(3, 4)
    if isinstance(module, nn.Linear):
        return nn.Linear(module.in_features, module.out_features)
    kernel = module.kernel_size  # type: ignore[attr-defined]
    return type(module)(module.in_channels, module.out_channels, kernel)  # type: ignore[attr-defined, call-arg]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FOLDED)
def test_fold_gives_the_weight_of_eval_mode(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape = FOLDED[name]
    model = make().eval()
    plain = plain_like(model).eval()
    x = torch.randn(shape)
    expected = model(x)
    for thing in (model, model.state_dict()):
        state = strip(save(thing, tmp_path / "m.pth"), fold=True)
        assert set(state) == set(plain.state_dict())
        plain.load_state_dict(state)
        got = plain(x)
        for a, b in zip(got if isinstance(got, tuple) else [got], expected if isinstance(got, tuple) else [expected], strict=True):
            if isinstance(a, torch.Tensor):
                assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [lambda: new_spectral(nn.Conv2d(2, 3, 2), (1, 2, 4, 4)), lambda: parametrizations.weight_norm(nn.Linear(3, 2))],
    ids=["spectral", "weight"],
)
def test_fold_of_parametrizations(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make().eval()
    state = strip(save(nn.Sequential(model).state_dict(), tmp_path / "m.pth"), fold=True)
    assert sorted(state) == ["0.bias", "0.weight"]
    assert torch.allclose(state["0.weight"], model.weight, rtol=1e-6)  # type: ignore[arg-type]
    assert list(state._metadata) == ["", "0"]


def test_fold_says_where_two_axes_fit(tmp_path: Path) -> None:
    state = {"w_orig": torch.ones(2, 2, 3), "w_u": torch.tensor([1.0, 0.0]), "w_v": torch.ones(6)}
    with pytest.warns(ConversionWarning, match="0 is taken"):
        assert torch.allclose(strip(save(state, tmp_path / "m.pth"), fold=True)["w"], torch.full((2, 2, 3), 1 / 6))


def test_fold_refuses_what_it_can_t(tmp_path: Path) -> None:
    model = parametrizations.orthogonal(nn.Linear(3, 3))
    with pytest.raises(UnsupportedError, match="no plain form"):
        strip(save(model.state_dict(), tmp_path / "m.pth"), fold=True)


def test_default_target(tmp_path: Path) -> None:
    for name, target in (("a.pth", "a_weights.pth"), ("a.pth.tar", "a_weights.pth"), ("v1.2", "v1.2_weights.pth"), ("x", "x_weights.pth")):
        assert default_target(tmp_path / name) == tmp_path / target
    path = save(A, tmp_path / "model.pt")
    assert strip_to_weights(path).path == tmp_path / "model_weights.pth"
    with pytest.raises(OutputExistsError):
        strip_to_weights(path)
    assert strip_to_weights(path, force=True).path == tmp_path / "model_weights.pth"


def test_safetensors_target(tmp_path: Path) -> None:
    model = classes.Tied()
    target = strip_to_weights(save(model, tmp_path / "m.pth"), tmp_path / "m.safetensors").path
    got = safetensors.torch.load_file(target)
    want = model.state_dict()
    assert set(got) == set(want) and all(torch.equal(got[name], want[name]) for name in want)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="suffix"):
        strip_to_weights(save(A, tmp_path / "m.pth"), tmp_path / "m.onnx")


def test_source_is_written_and_never_run(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(classes.Net(), tmp_path / "m.pth", "stream")
    report = strip_to_weights(path, source_dir=tmp_path / "source")
    assert any("class Net(nn.Module)" in file.read_text() for file in report.sources)
    assert all(file.suffix == ".txt" and file.parent == tmp_path / "source" for file in report.sources)
    with pytest.warns(ConversionWarning, match="no source"):
        strip_to_weights(save(A, tmp_path / "z.pth"), source_dir=tmp_path / "none")


def test_torch_isn_t_imported(tmp_path: Path) -> None:
    save(classes.Net(), tmp_path / "m.pth")
    code = "import sys, converters; converters.strip_to_weights(sys.argv[1]); print({'torch', 'onnx', 'onnx_ir'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "m.pth"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_report(tmp_path: Path) -> None:
    model = classes.Tied()
    report = strip_to_weights(save({"model": model, "optimizer": OPTIMIZER, "epoch": 1}, tmp_path / "m.pth"))
    assert report.key == "model" and report.form == "zip checkpoint"
    assert report.tensors == len(model.state_dict())
    assert report.classes["tests.readers.pytorch.classes.Tied"] == 1
    assert [entry.path for entry in report.left_out] == ["optimizer.state.0.exp_avg", "epoch"]
    assert ["emb.weight", "head.weight"] in report.tied and len(report.tied) == 3  # parts of one buffer aren't tied: mask, row, column
    assert "tests.readers.pytorch.classes.Tied" in report.unknown[0]
    text = str(report)
    assert "left out:  optimizer.state.0.exp_avg, epoch" in text and "m_weights.pth" in text
    moment = {"path": "optimizer.state.0.exp_avg", "type": "tensor", "dtype": "float32", "shape": [2]}
    assert report.as_dict()["left_out"] == [moment, {"path": "epoch", "type": "int", "dtype": None, "shape": None}]
    assert report.as_dict()["path"] == str(tmp_path / "m_weights.pth")


def test_every_tensor_is_written_or_named(tmp_path: Path) -> None:
    model = classes.Net()
    model.plain = torch.ones(7)  # type: ignore[assignment]
    optimizer = {"state": {i: {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)} for i in range(8)}, "param_groups": []}
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoint = {"model": model, "ema": ema, "optimizer": optimizer, "log": [{"images": torch.ones(3)}], "note": "text"}
    report = strip_to_weights(save(checkpoint, tmp_path / "m.pth"))
    left = {entry.path: entry.shape for entry in report.left_out}
    want = {f"optimizer.state.{i}.{name}": (2,) for i in range(8) for name in ("exp_avg", "exp_avg_sq")}
    want |= {f"ema.{name}": tuple(tensor.shape) for name, tensor in ema.items()} | {"log.0.images": (3,), "model.plain": (7,), "note": None}
    assert left == want
    shown = next(line for line in str(report).splitlines() if line.startswith("left out:"))
    assert f"ema: {len(ema)} tensors, optimizer.state: 16 tensors, log.0.images, note" in shown and "model.plain" in shown


def test_keys_that_are_no_text_are_said(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=r"2 of its keys aren't text \(None, 1.5\)"):
        assert list(strip(save({None: torch.ones(1), "w": torch.ones(1), 1.5: torch.ones(1)}, tmp_path / "m.pth"))) == ["None", "w", "1.5"]


def test_fold_of_pruned_weights(tmp_path: Path) -> None:
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Linear(4, 3), nn.Conv1d(2, 2, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_unstructured(model[0], "bias", 0.5)
    got = strip(save(model.state_dict(), tmp_path / "m.pth"), fold=True)
    for name in ("weight", "bias"):
        prune.remove(model[0], name)
    want = model.state_dict()
    assert set(got) == set(want) and all(torch.equal(got[name], want[name]) for name in want)
    broken = {"w_orig": torch.ones(2, 3), "w_mask": torch.ones(3)}
    with pytest.raises(ConversionError, match="under a mask of"):
        strip(save(broken, tmp_path / "n.pth"), fold=True)
