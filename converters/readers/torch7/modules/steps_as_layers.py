"""Which steps of the rnn package are ONNX's LSTM or GRU: told by the whole structure of the step, never by its class alone."""

from __future__ import annotations

import numpy as np

from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import child_path
from converters.readers.torch7.module import Array, Module, Net
from converters.readers.torch7.modules.recurrent import Layer, one_matrix

_SHOWN = {
    "nn.SelectTable": ("index",),
    "nn.NarrowTable": ("offset", "length"),
    "nn.SplitTable": ("dimension", "nInputDims"),
    "nn.SAdd": ("addend", "negate"),
    "nn.JoinTable": ("dimension", "nInputDims"),
}
"""Fields that a step's formula hangs on, by class."""


def _gate(peephole: str, narrow: str) -> str:
    return f"Sequential({narrow}ParallelTable(Linear LinearNoBias{peephole}) CAddTable Sigmoid)"


def _lstm(gate: str) -> str:
    new = "Sequential(NarrowTable[1,2] ParallelTable(Linear LinearNoBias) CAddTable Tanh)"
    kept = f"Sequential(ConcatTable({gate} SelectTable[3]) CMulTable)"
    added = f"Sequential(ConcatTable({gate} {new}) CMulTable)"
    answer = f"Sequential(ConcatTable({gate} Sequential(SelectTable[3] Tanh)) CMulTable)"
    cell = f"ConcatTable(NarrowTable[1,2] Sequential(ConcatTable({kept} {added}) CAddTable))"
    return f"Sequential({cell} FlattenTable ConcatTable({answer} SelectTable[3]))"


_FAST = (
    "Sequential(ConcatTable(Sequential(NarrowTable[1,2] ParallelTable(Linear LinearNoBias) CAddTable Reshape SplitTable[1,2] "
    "ParallelTable(Sigmoid Tanh Sigmoid Sigmoid)) SelectTable[3]) FlattenTable ConcatTable(Sequential(ConcatTable("
    "Sequential(NarrowTable[1,2] CMulTable) Sequential(ConcatTable(SelectTable[3] SelectTable[5]) CMulTable)) CAddTable) SelectTable[4]) "
    "FlattenTable ConcatTable(Sequential(ConcatTable(Sequential(SelectTable[1] Tanh) SelectTable[2]) CMulTable) SelectTable[1]))"
)
_GRU = (
    "Sequential(ConcatTable(Identity Sequential(ParallelTable(Linear LinearNoBias) CAddTable Reshape SplitTable[1,2] "
    "ParallelTable(Sigmoid Sigmoid))) FlattenTable ConcatTable(NarrowTable[1,4] SelectTable[2]) FlattenTable Sequential(ConcatTable("
    "Sequential(ConcatTable(Sequential(ConcatTable(Sequential(SelectTable[1] Linear) Sequential(NarrowTable[2,2] CMulTable LinearNoBias)) "
    "CAddTable Tanh) Sequential(SelectTable[4] SAdd[-1,True])) CMulTable) Sequential(NarrowTable[4,2] CMulTable)) CAddTable))"
)
_KINDS = {
    _lstm(_gate(" CMul", "")): "LSTM",
    _lstm(_gate("", "NarrowTable[1,2] ")): "LSTM",
    _FAST: "FastLSTM",
    _GRU: "GRU",
}


def step_as_layer(net: Net, step: Module) -> Layer | None:
    """The layer that runs this step over a sequence; None where it has to be run step by step."""
    held = step.get("modules")
    inner = held.array() if isinstance(held, t7.Table) else []
    if len(inner) != 1 or not isinstance(inner[0], t7.TorchObject):
        return None
    if step.type in ("nn.RecLSTM", "nn.RecGRU"):
        return _one_matrix(net.module(inner[0], child_path(step.path, 0)))
    if step.type not in ("nn.LSTM", "nn.FastLSTM", "nn.GRU"):
        return None
    leaves: list[Module] = []
    kind = _KINDS.get(_structure(net, inner[0], child_path(step.path, 0), leaves))
    try:
        return {"LSTM": _lstm_layer, "FastLSTM": _fast_layer, "GRU": _gru_layer}[kind](leaves) if kind else None
    except ValueError:  # a matrix of another size: the step itself says what is wrong
        return None


def _structure(net: Net, made: t7.TorchObject, path: str, leaves: list[Module]) -> str:
    """The classes of a module and all inside it as text; `leaves` gets those that hold weights. Dropouts that do nothing aren't shown."""
    name = made.typename.removeprefix("nn.")
    held = made.get("modules")
    inner = [item for item in held.array() if isinstance(item, t7.TorchObject)] if isinstance(held, t7.Table) else []
    if made.typename == "nn.Dropout" and (made.get("v2") not in (None, False) or made.get("p") == 0.0):
        return ""
    shown = [f"{v:g}" if isinstance(v, float) else str(v) for key in _SHOWN.get(made.typename, ()) if (v := made.get(key)) is not None]
    if made.typename in ("nn.Linear", "nn.LinearNoBias", "nn.CMul"):
        leaves.append(net.module(made, path))
    parts = [part for n, item in enumerate(inner) if (part := _structure(net, item, child_path(path, n), leaves))]
    if name == "Sequential" and len(parts) == 1:
        return parts[0]
    return name + (f"[{','.join(shown)}]" if shown else "") + (f"({' '.join(parts)})" if parts else "")


def _matrix(module: Module) -> tuple[Array, Array]:
    """Weight and bias, zeros where there is none."""
    weight = module.tensor("weight", None, None)
    bias = module.optional_tensor("bias")
    return weight, np.zeros(len(weight), weight.dtype) if bias is None else bias.reshape(-1)


def _lstm_layer(leaves: list[Module]) -> Layer:
    """Gates in the order of the structure: forget, input, new cell, output."""
    order = "fico"
    peepholes = len(leaves) == 11
    w: dict[str, Array] = {}
    r: dict[str, Array] = {}
    b: dict[str, Array] = {}
    p: dict[str, Array] = {}
    rest = iter(leaves)
    for gate in order:
        w[gate], b[gate] = _matrix(next(rest))
        r[gate], more = _matrix(next(rest))
        b[gate] = b[gate] + more
        if peepholes and gate != "c":
            p[gate] = next(rest).tensor("weight").reshape(-1)
    return Layer("LSTM", w, r, b, p=p or None)


def _fast_layer(leaves: list[Module]) -> Layer:
    (weight, bias), (recurrence, more) = _matrix(leaves[0]), _matrix(leaves[1])
    return Layer("LSTM", _split(weight, "icfo"), _split(recurrence, "icfo"), _split(bias + more, "icfo"))


def _gru_layer(leaves: list[Module]) -> Layer:
    (early, bias), (late, more) = _matrix(leaves[0]), _matrix(leaves[1])
    (new, new_bias), (reset, new_more) = _matrix(leaves[2]), _matrix(leaves[3])
    w = {**_split(early, "rz"), "h": new}
    r = {**_split(late, "rz"), "h": reset}
    return Layer("GRU", w, r, {**_split(bias + more, "rz"), "h": new_bias}, {"h": new_more})


def _split(array: Array, order: str) -> dict[str, Array]:
    """Rows of gates."""
    if len(array) % len(order):
        raise ValueError(f"{len(array)} rows")
    return dict(zip(order, np.split(array, len(order)), strict=True))


def _one_matrix(step: Module) -> Layer | None:
    """The layer of rnn 2.7's StepLSTM or StepGRU, which hold the weights of SeqLSTM or SeqGRU."""
    if step.flag("maskzero") or "weightO" in step:
        return None
    width, size = step.integer("inputsize", least=1), step.integer("outputsize", least=1)
    if step.type == "nn.StepLSTM":
        return one_matrix(step, "LSTM", "ifoc", width, size)
    return one_matrix(step, "GRU", "rzh", width, size) if step.type == "nn.StepGRU" else None
