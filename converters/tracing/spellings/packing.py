"""Packed sequences: ONNX's recurrent operators take padded ones and their lengths.

While a module is exported, what pack_padded_sequence makes holds the padded batch, time first (T, N, C), and for each step how many
sequences are still going on, as torch's own does. Code of the module may change the data number by number; nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from converters.errors import UnsupportedError

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}
"""Where each of ONNX's gates is among torch's."""
_TO_THE_LONGEST = 0
"""The size of a packed sequence's steps, which nobody knows: pad_packed_sequence is given it where no total length is asked for."""


class Packing:
    """Has nn.LSTM, nn.GRU and nn.RNN take packed sequences in ONNX's words, for the block."""

    def __init__(self) -> None:
        self._sizes: list[torch.Tensor] = []
        self._own = {cls: cls.forward for cls in (nn.LSTM, nn.GRU, nn.RNN)}
        self.spellings = {"_pack_padded_sequence": self._pack, "_pad_packed_sequence": self._pad, "size": self._size}

    def __enter__(self) -> Packing:
        for cls, own in self._own.items():
            cls.forward = _forward(own)  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        for cls, own in self._own.items():
            cls.forward = own  # type: ignore[method-assign]

    def _pack(self, input: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
        data = input.transpose(0, 1) if batch_first else input
        sizes = (lengths.unsqueeze(0) > torch.arange(data.shape[0]).unsqueeze(1)).sum(1)
        self._sizes.append(sizes)
        return data, sizes

    def _size(self, x: torch.Tensor, dim: int | None = None) -> Any:
        return _TO_THE_LONGEST if dim == 0 and any(x is sizes for sizes in self._sizes) else NotImplemented

    def _pad(self, data: torch.Tensor, sizes: torch.Tensor, batch_first: bool, padding_value: float, steps: Any) -> Any:
        """The padded batch and its lengths, as long as its longest sequence or as what was asked for."""
        time, batch = data.shape[:2]
        lengths = _lengths(sizes, batch)
        inside = torch.arange(time).unsqueeze(1) < lengths.unsqueeze(0)
        data = torch.where(inside.reshape(time, batch, *[1] * (data.dim() - 2)), data, padding_value)
        if steps is _TO_THE_LONGEST:
            steps = (sizes > 0).sum().item()
            torch._check(steps >= 0)  # type: ignore[no-untyped-call]
            torch._check(steps <= time)  # type: ignore[no-untyped-call]
            data = data.narrow(0, 0, steps)
        elif steps > time:
            data = torch.cat([data, data.new_full((steps - time, *data.shape[1:]), padding_value)])
        elif steps < time:
            data = data.narrow(0, 0, steps)
        return data.transpose(0, 1) if batch_first else data, lengths


def _lengths(sizes: torch.Tensor, batch: int) -> torch.Tensor:
    """The lengths (N,), longest first, of how many go on at each step (T,)."""
    return (sizes.unsqueeze(0) > torch.arange(batch).unsqueeze(1)).sum(1)


def _forward(own: Any) -> Any:
    """nn.LSTM.forward and its like, and packed sequences too."""

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        return _packed(self, input, hx) if isinstance(input, PackedSequence) else own(self, input, hx)

    return forward


def _packed(rnn: nn.RNNBase, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
    if rnn.proj_size:
        raise UnsupportedError(
            "ONNX has no LSTM with a projection, whose scan takes no packed sequences", hint="run it on sequences of one length"
        )
    values, sizes, order, back = packed
    is_lstm = rnn.mode == "LSTM"
    states = None if hx is None else [_permuted(state, order) for state in (hx if is_lstm else (hx,))]
    lengths = _lengths(sizes, values.shape[1]).int()
    found: list[list[torch.Tensor]] = [[], []]
    directions = 2 if rnn.bidirectional else 1
    for layer in range(rnn.num_layers):
        first = [None, None] if states is None else [state.narrow(0, layer * directions, directions) for state in states]
        values, *last = _layer(rnn, layer, values, lengths, first[: 2 if is_lstm else 1])
        for kept, state in zip(found, last, strict=False):
            kept.append(state)
    ends = [_permuted(torch.cat(kept), back) for kept in found if kept]
    return PackedSequence(values, sizes, order, back), tuple(ends) if is_lstm else ends[0]


def _permuted(state: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    return state if order is None else state.index_select(1, order)


def _layer(rnn: nn.RNNBase, layer: int, x: torch.Tensor, lengths: torch.Tensor, states: Any) -> tuple[torch.Tensor, ...]:
    """One layer in both directions: its output (T, N, C), the last states (directions, N, C)."""
    directions = 2 if rnn.bidirectional else 1
    suffixes = [f"l{layer}", f"l{layer}_reverse"][:directions]
    gates = _GATES[rnn.mode]

    def reordered(name: str) -> torch.Tensor:
        weights = [getattr(rnn, f"{name}_{suffix}").chunk(len(gates)) for suffix in suffixes]
        return torch.stack([torch.cat([parts[gate] for gate in gates]) for parts in weights])

    bias = torch.cat([reordered("bias_ih"), reordered("bias_hh")], 1) if rnn.bias else None
    attributes: dict[str, Any] = {"hidden_size": rnn.hidden_size, "direction": "bidirectional" if rnn.bidirectional else "forward"}
    if rnn.mode == "GRU":
        attributes["linear_before_reset"] = 1
    if rnn.mode.startswith("RNN"):
        attributes["activations"] = ["Relu" if rnn.mode == "RNN_RELU" else "Tanh"] * directions
    time, batch = x.shape[:2]
    end = (directions, batch, rnn.hidden_size)
    output, *last = torch.onnx.ops.symbolic_multi_out(
        rnn.mode.partition("_")[0],
        (x, reordered("weight_ih"), reordered("weight_hh"), bias, lengths, *states),
        attributes,
        dtypes=[x.dtype] * (1 + len(states)),
        shapes=[(time, directions, batch, rnn.hidden_size), *[end] * len(states)],
    )
    return output.transpose(1, 2).flatten(2), *last
