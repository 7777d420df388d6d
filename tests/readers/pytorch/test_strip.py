"""strip_to_weights against PyTorch itself: the same keys, order, types, bits, strides, ties and metadata as state_dict()."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters import strip_to_weights
from tests.readers.pytorch import classes

FORMS = [("zip", 2), ("zip", 1), ("zip", 3), ("zip", 4), ("zip", 5), ("stream", 2), ("stream", 1), ("stream", 4)]


def save(thing: Any, path: Path, form: str = "zip", protocol: int = 2) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(thing, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip")
    return path


def strip(path: Path, **options: Any) -> Any:
    target = strip_to_weights(path, path.with_suffix(".weights.pth"), force=True, **options).path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapped = torch.load(target, weights_only=True, mmap=True)
        loaded = torch.load(target, weights_only=True)
    assert list(mapped) == list(loaded)
    return loaded


def bits(tensor: torch.Tensor) -> bytes:
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1)
    return bytes(tensor.view(torch.uint8).numpy()) if tensor.numel() else b""


def ties(state: dict[str, torch.Tensor]) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, tensor in state.items():
        if tensor.layout == torch.strided and tensor.numel():
            groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    return sorted(names for names in groups.values() if len(names) > 1)


def compare(got: Any, want: Any, *, metadata: bool = True) -> None:
    assert list(got) == [str(name) for name in want]
    for name, expected in zip(got, want.values(), strict=True):
        tensor = got[name]
        assert type(tensor) is torch.Tensor, name
        assert tensor.dtype == expected.dtype, name
        assert tensor.shape == expected.shape, name
        assert tensor.layout == expected.layout, name
        if tensor.layout == torch.strided and not tensor.is_nested:
            assert tensor.stride() == expected.stride(), name
            assert tensor.is_conj() == expected.is_conj() and tensor.is_neg() == expected.is_neg(), name
        if tensor.is_quantized:
            assert tensor.qscheme() == expected.qscheme() and torch.equal(tensor.dequantize(), expected.dequantize()), name
        assert bits(tensor) == bits(expected), name
    assert ties(got) == ties({str(name): tensor for name, tensor in want.items()})
    if metadata:
        assert getattr(got, "_metadata", None) == getattr(want, "_metadata", None)


def with_statistics(model: nn.Module) -> nn.Module:
    """A model whose numbers are all different."""
    with torch.no_grad():
        for i, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(i)).to(tensor.dtype))
    return model


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    layer = nn.Linear(4, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def trained_spectral() -> nn.Module:
    from torch.nn.utils import spectral_norm

    model = nn.Sequential(spectral_norm(nn.Conv2d(2, 3, 2)), spectral_norm(nn.ConvTranspose2d(3, 2, 2)))
    model(torch.ones(1, 2, 4, 4))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "net": classes.Net,
    "attributes": classes.Attributes,
    "older attributes": lambda: without(classes.Attributes(), "torch_things", "functions"),
    "buffers": classes.Buffers,
    "tied": classes.Tied,
    "moved": classes.Moved,
    "dict module": classes.DictModule,
    "list module": classes.ListModule,
    "slots": classes.Slots,
    "state": classes.State,
    "reduced": classes.Reduced,
    "new arguments": classes.WithArguments,
    "parameter subclass": classes.ParameterSubclass,
    "hooked": classes.Hooked,
    "unicode": classes.Ünïcode,
    "data parallel": lambda: nn.DataParallel(classes.Net()),
    "inner data parallel": lambda: nn.Sequential(OrderedDict(body=nn.DataParallel(classes.Net()), head=nn.Linear(1, 1))),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(classes.Net()),
    "bfloat16": lambda: classes.Net().to(torch.bfloat16),
    "half": lambda: classes.Net().half(),
    "double": lambda: classes.Net().double(),
    "channels last": lambda: classes.Net().to(memory_format=torch.channels_last),
    "weight norm": lambda: nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)), torch.nn.utils.weight_norm(nn.Conv1d(2, 2, 1))),
    "spectral norm": trained_spectral,
    "pruned": pruned,
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(3, 4),
    "cell": lambda: nn.LSTMCell(2, 3),
    "attention": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2),
    "norms": lambda: nn.Sequential(nn.SyncBatchNorm(2), nn.InstanceNorm2d(2, affine=True, track_running_stats=True), nn.GroupNorm(1, 2)),
    "norms without": lambda: nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False, affine=False), nn.LayerNorm(3), nn.Linear(1, 1)),
    "containers": lambda: nn.ModuleDict(
        {"list": nn.ModuleList([nn.Linear(1, 1), nn.ReLU()]), "k-ey": nn.PReLU(2), "p": nn.ParameterList([torch.ones(1), torch.ones(2)])}
    ),
    "parameter dict": lambda: nn.ParameterDict({"left": nn.Parameter(torch.ones(2)), "right": nn.Parameter(torch.ones(1))}),
    "embedding bag": lambda: nn.EmbeddingBag(3, 2, padding_idx=1),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "adaptive softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [2, 5]),
    "loss": lambda: nn.CrossEntropyLoss(weight=torch.ones(3)),
    "frozen": lambda: classes.Net().requires_grad_(False),
    "lazy, initialized": lambda: initialized(nn.LazyLinear(3)),
    "compiled": lambda: torch.compile(nn.Linear(2, 2)),
}


def without(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        delattr(model, name)
    return model


def initialized(layer: nn.Module) -> nn.Module:
    layer(torch.ones(1, 2))
    return layer


@pytest.mark.parametrize("name", MODELS)
def test_whole_model(name: str, tmp_path: Path) -> None:
    model = with_statistics(MODELS[name]())
    for form, protocol in FORMS:
        if protocol < {"unicode": 3, "attributes": 4, "older attributes": 2}.get(name, 0):  # which Python's own pickle can't write
            continue
        path = save(model, tmp_path / f"{form}{protocol}.pth", form, protocol)
        compare(strip(path), model.state_dict())


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0)
    return {"whole": base, "middle": base[4:8], "square": base[:16].reshape(4, 4).t(), "far": base[23], "step": base[::5]}


def shapes() -> dict[str, torch.Tensor]:
    return {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0),
        "empty3": torch.empty(2, 0, 3),
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 1000),
        "one": torch.tensor(3.0).expand(4, 4),
        "strided": torch.arange(20.0).reshape(4, 5)[::2, 1::2],
        "overlapping": torch.arange(6.0).as_strided((4, 3), (1, 1)),
        "channels": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "one row": torch.arange(12.0).reshape(3, 4)[1:2],
    }


CLASSIC = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
NEW = "uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu complex32".split()


def of_types(names: list[str]) -> dict[str, torch.Tensor]:
    raw = torch.arange(1, 33, dtype=torch.uint8)
    return {name: (raw % 2 if name == "bool" else raw).clone().view(getattr(torch, name)) for name in names}


def quantized() -> dict[str, torch.Tensor]:
    values = torch.arange(-3.0, 3.0).reshape(2, 3)
    scales, zeros = torch.tensor([0.1, 0.25], dtype=torch.float64), torch.tensor([1, 2])
    return {
        "qint8": torch.quantize_per_tensor(values, 0.1, 3, torch.qint8),
        "quint8": torch.quantize_per_channel(values, scales, zeros, 0, torch.quint8),
        "qint32": torch.quantize_per_tensor(values, 0.5, 0, torch.qint32),
    }


def layouts() -> dict[str, torch.Tensor]:
    dense = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    return {
        "coo": dense.to_sparse(),
        "coalesced": dense.to_sparse().coalesce(),
        "hybrid": torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 3), (4, 3)),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": torch.eye(4).to_sparse_bsr((2, 2)),
        "plain": dense,
    }


def bit_flags() -> dict[str, torch.Tensor]:
    number = torch.tensor([1 + 2j, 3 - 4j])
    return {"plain": number, "conj": number.conj(), "neg": torch.tensor([3j]).conj().imag, "copy": torch.tensor([1j]).conj()}


class Numbers(torch.Tensor):
    """A subclass of the test's own."""


def subclasses() -> dict[str, torch.Tensor]:
    marked = torch.ones(3)
    marked.note = "an attribute"  # type: ignore[attr-defined]
    return {"subclass": torch.arange(4.0).as_subclass(Numbers), "marked": marked, "parameter": nn.Parameter(torch.ones(2))}


DICTIONARIES: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
    "views": views,
    "shapes": shapes,
    "classic types": lambda: of_types(CLASSIC),
    "new types": lambda: of_types(NEW),
    "quantized": quantized,
    "layouts": layouts,
    "flags": bit_flags,
    "subclasses": subclasses,
    "state_dict": lambda: classes.Net().state_dict(),
    "kept variables": lambda: classes.Net().state_dict(keep_vars=True),
    "parametrized": lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)).state_dict(),
    "names": lambda: {"": torch.ones(1), "a b": torch.ones(2), "ключ": torch.ones(3), "__class__": torch.ones(4), "x" * 300: torch.ones(5)},
    "nan": lambda: {"nan": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionary(name: str, tmp_path: Path) -> None:
    state = DICTIONARIES[name]()
    for form, protocol in FORMS:
        if protocol == 1 and name == "names":
            continue
        try:
            path = save(state, tmp_path / f"{form}{protocol}.pth", form, protocol)
        except (RuntimeError, NotImplementedError, KeyError, AttributeError):  # not every type can be written in the old stream
            assert form == "stream"
            continue
        compare(strip(path), state)


def test_nested_tensor(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)])
        got = strip(save({"nested": nested, "plain": torch.ones(1)}, tmp_path / "n.pth"))
        assert [bits(part) for part in got["nested"].unbind()] == [bits(part) for part in nested.unbind()]


def test_numpy_arrays_count_as_weights(tmp_path: Path) -> None:
    arrays = {
        "w": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.ones((2, 3), "f4")),
        "big": np.arange(3, dtype=">i4"),
        "s": np.array(2.0),
    }
    for form, protocol in FORMS:
        got = strip(save({"model": arrays}, tmp_path / "a.pth", form, protocol))
        for name, array in arrays.items():
            assert np.array_equal(got[name].numpy(), array) and got[name].numpy().dtype == array.dtype.newbyteorder("="), name
