"""Whole modules, state_dicts and TorchScript programs by whichever torch runs this, with its answers: the table of versions and kinds.

    OLD_PYTHON tests/old_torch.py FOLDER      (needs torch 1.0 or newer and numpy, and nothing of this package; Python 3.6 or newer)

FOLDER/KIND.pth is the module, KIND_state.pth its state_dict, KIND_script.pt the program traced of it; KIND.npz holds its inputs, its
outputs and its state_dict. A kind that this torch doesn't have is left out. `python -m tests.old_torch_table FOLDER ...` converts them.
"""

import contextlib
import inspect
import os
import sys
import warnings

import numpy as np
import torch
from torch import nn

warnings.simplefilter("ignore")


def normal(*shape):
    return torch.from_numpy(RANDOM.standard_normal(shape).astype("f4"))


def indices(*shape):
    return torch.from_numpy(RANDOM.integers(0, 5, shape).astype("i8"))


class Random:
    """numpy's random numbers, by the interface that all versions have."""

    def __init__(self, seed):
        self.state = np.random.RandomState(seed)

    def standard_normal(self, shape):
        return self.state.standard_normal(shape)

    def integers(self, low, high, shape):
        return self.state.randint(low, high, shape)


RANDOM = Random(0)


def pruned():
    from torch.nn.utils import prune

    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    prune.l1_unstructured(net[0], "weight", 0.4)
    return net


def scaled(module):
    """Running statistics and weights that all matter."""
    for tensor in list(module.parameters()) + list(module.buffers()):
        if tensor.dtype == torch.float32 and tensor.dim() < 2:
            tensor.data.add_(normal(*tensor.shape).abs() * 0.3) if tensor.dim() else None
    return module


def transformer(**more):
    return nn.Transformer(4, 2, 1, 2, 8, 0.1, **more)


KINDS = {
    "conv_bn": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
        ),
        [normal(2, 2, 11, 9)],
    ),
    "conv_1d_3d": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 3, padding=2, dilation=2), nn.BatchNorm1d(4), nn.AvgPool1d(3, 2)),
        [normal(2, 2, 9)],
    ),
    "conv3d": lambda: (nn.Sequential(nn.Conv3d(1, 2, (1, 3, 3)), nn.BatchNorm3d(2), nn.MaxPool3d(2)), [normal(2, 1, 4, 7, 6)]),
    "lstm": lambda: (nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True, dropout=0.1), [normal(2, 5, 3)]),
    "lstm_states": lambda: (nn.LSTM(3, 4, bias=False), [normal(5, 2, 3), (normal(1, 2, 4), normal(1, 2, 4))]),
    "lstm_proj": lambda: (nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), [normal(5, 2, 3)]),
    "gru": lambda: (nn.GRU(3, 4, 2, bidirectional=True), [normal(5, 2, 3)]),
    "rnn": lambda: (nn.RNN(3, 4, 2, nonlinearity="relu", batch_first=True), [normal(2, 5, 3)]),
    "cells": lambda: (nn.GRUCell(3, 4), [normal(2, 3), normal(2, 4)]),
    "attention": lambda: (nn.MultiheadAttention(4, 2), [normal(5, 2, 4), normal(6, 2, 4), normal(6, 2, 4)]),
    "attention_kv": lambda: (
        nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3, vdim=3),
        [normal(5, 2, 4), normal(6, 2, 3), normal(6, 2, 3)],
    ),
    "encoder": lambda: (nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2), [normal(5, 2, 4)]),
    "encoder_gelu": lambda: (nn.TransformerEncoderLayer(4, 2, 8, activation="gelu"), [normal(5, 2, 4)]),
    "transformer": lambda: (transformer(), [normal(5, 2, 4), normal(3, 2, 4)]),
    "upsample": lambda: (
        nn.Sequential(nn.Upsample(scale_factor=1.6, mode="bilinear", align_corners=False), nn.Conv2d(2, 2, 1)),
        [normal(1, 2, 7, 6)],
    ),
    "upsample_nearest": lambda: (nn.Sequential(nn.Upsample(scale_factor=1.6), nn.Upsample(size=(20, 9))), [normal(1, 2, 7, 6)]),
    "upsample_corners": lambda: (nn.UpsamplingBilinear2d(scale_factor=2.5), [normal(1, 2, 5, 6)]),
    "circular": lambda: (nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"), [normal(1, 2, 6, 7)]),
    "reflect": lambda: (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), [normal(1, 2, 6, 7)]),
    "weight_norm": lambda: (
        nn.Sequential(nn.utils.weight_norm(nn.Conv1d(2, 3, 3)), nn.utils.weight_norm(nn.Linear(4, 3), dim=None)),
        [normal(2, 2, 6)],
    ),
    "spectral_norm": lambda: (nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(2, 3, 3)), nn.Tanh()), [normal(2, 2, 6, 6)]),
    "embedding": lambda: (nn.Sequential(nn.Embedding(5, 4, padding_idx=1), nn.Linear(4, 3), nn.LogSoftmax(-1)), [indices(2, 6)]),
    "embedding_bag": lambda: (nn.EmbeddingBag(5, 4, mode="mean"), [indices(2, 6)]),
    "pruned": lambda: (pruned(), [normal(1, 2, 6, 6)]),
    "norms": lambda: (
        nn.Sequential(
            nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.LocalResponseNorm(3), nn.LayerNorm([5, 6])
        ),
        [normal(2, 4, 5, 6)],
    ),
    "across_maps": lambda: (nn.Sequential(nn.CrossMapLRN2d(3, 0.1, 0.7, 1.5)), [normal(2, 5, 3, 3)]),
    "activations": lambda: (
        nn.Sequential(
            nn.PReLU(3), nn.ELU(0.7), nn.Softplus(2), nn.Hardtanh(-0.5, 2), nn.LogSigmoid(), nn.SELU(), nn.Softsign(), nn.Softmax()
        ),
        [normal(2, 3) * 3],
    ),
    "newer_activations": lambda: (nn.Sequential(nn.GELU(), nn.CELU(0.5), nn.Hardswish(), nn.SiLU(), nn.Hardsigmoid()), [normal(2, 3) * 3]),
    "pools": lambda: (
        nn.Sequential(
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.LPPool2d(2, 2, ceil_mode=True), nn.AdaptiveAvgPool2d((2, 3))
        ),
        [normal(1, 2, 13, 12).abs()],
    ),
    "shapes": lambda: (nn.Sequential(nn.PixelShuffle(2), nn.ReflectionPad2d(1), nn.Flatten(), nn.Linear(72, 3)), [normal(2, 8, 2, 2)]),
    "folds": lambda: (nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((4, 6), 2, stride=2)), [normal(1, 2, 4, 6)]),
    "bilinear": lambda: (nn.Bilinear(3, 4, 2), [normal(2, 3), normal(2, 4)]),
    "cosine": lambda: (nn.CosineSimilarity(1, 1e-2), [normal(3, 4) * 1e-2, normal(3, 4)]),
    "parts": lambda: (nn.ModuleDict({"a-b": nn.ModuleList([nn.Linear(2, 2)]), "c": nn.ParameterList([nn.Parameter(normal(2))])}), None),
    "quantized": lambda: (
        torch.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), {nn.Linear}),
        [normal(2, 4)],
    ),
}
"""A module of torch's own classes and its inputs (None: it has no forward), by kind."""


def flat(value):
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in flat(part)]
    return [] if value is None else [value]


def plain(tensor):
    tensor = tensor.detach()
    return (tensor.int_repr() if tensor.dtype in QUANTIZED else tensor).numpy()


QUANTIZED = tuple(getattr(torch, name) for name in ("qint8", "quint8", "qint32") if hasattr(torch, name))


def make(folder, name):
    """One kind's files; False where this torch doesn't have it."""
    RANDOM.state.seed(sum(map(ord, name)))
    torch.manual_seed(0)
    try:
        module, inputs = KINDS[name]()
        module = scaled(module.eval())
        with torch.no_grad():
            outputs = [] if inputs is None else flat(module(*inputs))
    except (TypeError, AttributeError, ImportError, NotImplementedError, ValueError, RuntimeError, AssertionError) as problem:
        print("  without", name, str(problem)[:80])
        return False
    arrays = {f"in_{n}": plain(tensor) for n, tensor in enumerate(flat(inputs))}
    arrays.update({f"out_{n}": plain(tensor) for n, tensor in enumerate(outputs)})
    arrays.update({"state_" + key: plain(value) for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)})
    np.savez_compressed(os.path.join(folder, name + ".npz"), **arrays)
    torch.save(module.state_dict(), os.path.join(folder, name + "_state.pth"))
    for target, write in (
        (name + ".pth", lambda path: write_whole(module, path)),
        (name + "_script.pt", lambda path: trace(module, inputs, path)),
    ):
        path = os.path.join(folder, target)
        try:
            write(path)
        except Exception as problem:  # what this torch can't save or trace
            print("  without", target, str(problem).split("\n")[0][:80])
            if os.path.exists(path):
                os.remove(path)
    return True


@contextlib.contextmanager
def without_source():
    """Streams of before 1.6 take the classes' source along; torch's own isn't ours to give away."""
    names = ("getsource", "getsourcelines", "getsourcefile")
    held = {name: getattr(inspect, name) for name in names}

    def nothing(_):
        raise OSError("no source")

    for name in names:
        setattr(inspect, name, nothing)
    try:
        yield
    finally:
        for name, function in held.items():
            setattr(inspect, name, function)


def write_whole(module, path):
    with without_source():
        torch.save(module, path)


def trace(module, inputs, path):
    with torch.no_grad():
        torch.jit.trace(module, tuple(inputs)).save(path)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    print("torch", torch.__version__, sum(make(sys.argv[1], name) for name in KINDS), "of", len(KINDS), "kinds")
