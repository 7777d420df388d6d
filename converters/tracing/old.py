"""What torch.nn's classes were in older versions: the classes that are rebuilt, and what a file leaves out, with what it meant then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The constructor's arguments that make a smallest instance, whose attributes fill in what an old file doesn't have.
_ONE, _CONV = (1,), (1, 1, 1)
LAYERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"], _CONV),
    **dict.fromkeys(["Linear", "Embedding", "EmbeddingBag"], (1, 1)),
    "Bilinear": (1, 1, 1),
    **dict.fromkeys(["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"], _ONE),
    **dict.fromkeys(["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm", "LocalResponseNorm"], _ONE),
    **dict.fromkeys(["MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d"], _ONE),
    **dict.fromkeys(["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"], _ONE),
    **dict.fromkeys(["AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"], _ONE),
    **dict.fromkeys(["MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"], _ONE),
    **dict.fromkeys(["LPPool1d", "LPPool2d", "LPPool3d", "GroupNorm"], (1, 1)),
    **dict.fromkeys(["ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "CircularPad1d", "CircularPad2d", "CircularPad3d"], _ONE),
    **dict.fromkeys(["ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"], _ONE),
    **dict.fromkeys(["ConstantPad1d", "ConstantPad2d", "ConstantPad3d"], (1, 0.0)),
    **dict.fromkeys(
        "ReLU ReLU6 LeakyReLU PReLU RReLU ELU SELU CELU GELU Sigmoid LogSigmoid Tanh Tanhshrink Softplus Softsign Softshrink "
        "Hardshrink Hardtanh Hardsigmoid Hardswish SiLU Mish GLU Softmin Softmax Softmax2d LogSoftmax Identity".split(),
        (),
    ),
    "Threshold": (0.0, 0.0),
    **dict.fromkeys(["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"], ()),
    **dict.fromkeys(["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"], (1, 1)),
    **dict.fromkeys(["PixelShuffle", "PixelUnshuffle", "ChannelShuffle"], _ONE),
    **dict.fromkeys(["Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"], ()),
    **dict.fromkeys(["Flatten", "CosineSimilarity", "PairwiseDistance"], ()),
    "Unflatten": (1, (1,)),
    "Fold": (1, 1),
    "Unfold": (1,),
    **dict.fromkeys(["Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"], ()),
    "MultiheadAttention": (1, 1),
    **dict.fromkeys(["NonDynamicallyQuantizableLinear", "_LinearWithBias"], (1, 1)),
    **dict.fromkeys(["TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"], (1, 1, 1)),
    **dict.fromkeys(["TransformerEncoder", "TransformerDecoder"], (None, 0)),
    "CrossMapLRN2d": _ONE,
}
"""The classes of torch.nn that are rebuilt without anybody's trust."""
_PLAIN = (bool, int, float, str, type(None))
_QUANTIZABLE = frozenset({"NonDynamicallyQuantizableLinear", "_LinearWithBias"})
"""What attention has called its last layer since 1.9, and from 1.6 to 1.8."""


def class_of(name: str, stated: Mapping[str, Any]) -> Any:
    """The class of torch.nn that a listed name stands for; None where this torch has none."""
    import torch

    if name in _QUANTIZABLE:
        return torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    if name == "CrossMapLRN2d":
        return _across_maps()
    return getattr(torch.nn, name, None)


def _across_maps() -> Any:
    """CrossMapLRN2d, a function that no exporter follows: even sizes take one map less, and the first map's square never leaves."""
    import torch

    class CrossMapNorm(torch.nn.Module):
        size: int
        alpha: float
        beta: float
        k: float

        def __init__(self, size: int) -> None:
            super().__init__()
            self.size, self.alpha, self.beta, self.k = size, 1e-4, 0.75, 1.0

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            ahead, squares = int((self.size - 1) / 2 + 1), input * input
            width = 2 * ahead - 1
            padded = torch.nn.functional.pad(squares.unsqueeze(1), [0, 0, 0, 0, ahead - 1, ahead - 1])
            sums = torch.nn.functional.avg_pool3d(padded, (width, 1, 1), stride=1).squeeze(1) * width
            stays = (torch.arange(input.shape[1], device=input.device) >= ahead).view(1, -1, 1, 1)
            scale = self.k + self.alpha / self.size * (sums + stays * squares[:, :1])
            return input * scale ** (-self.beta)

    return CrossMapNorm


def _old_cosine() -> Any:
    """CosineSimilarity up to 1.11, which kept the product of the norms above eps, not each."""
    import torch

    class ProductCosine(torch.nn.CosineSimilarity):
        def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
            product = (x1 * x2).sum(self.dim)
            norms = (x1 * x1).sum(self.dim) * (x2 * x2).sum(self.dim)
            return product / norms.clamp(min=self.eps * self.eps).sqrt()

    return ProductCosine


def _smallest(name: str) -> tuple[Any, ...]:
    """The constructor's arguments of a smallest instance."""
    import torch

    if name == "TransformerEncoder":
        return torch.nn.TransformerEncoderLayer(1, 1, 1), 0, None, False
    if name == "TransformerDecoder":
        return torch.nn.TransformerDecoderLayer(1, 1, 1), 0
    return LAYERS[name]


def modernise(state: dict[str, Any], name: str, stated: Mapping[str, Any]) -> None:
    """What `__setstate__` of today's torch doesn't mend."""
    import torch

    if name.startswith("Conv"):
        # up to 1.4 any word but circular meant zeros; 1.5.0 and later write what they pad with
        told = stated.keys() & {"_padding_repeated_twice", "_reversed_padding_repeated_twice"}
        if "padding_mode" not in state or (not told and state["padding_mode"] != "circular"):
            state["padding_mode"] = "zeros"
    if name.startswith("Upsampl") and "recompute_scale_factor" not in stated:
        # up to 1.5 the scale was worked out again from the sizes; 1.6 to 1.10, whose modules list transient buffers, took it as given
        again = stated.get("size") is None and "_non_persistent_buffers_set" not in stated
        state["recompute_scale_factor"] = True if again else None
    if name.startswith(("Conv", "MaxPool", "AvgPool")):
        for key in ("kernel_size", "stride", "padding", "dilation", "output_padding"):
            if isinstance(state.get(key), list):
                state[key] = tuple(state[key])
    if name in ("Softmax", "LogSoftmax", "Softmin"):
        state.setdefault("dim", None)
    if name == "RNN" and "nonlinearity" not in state:
        state["nonlinearity"] = "relu" if state.get("mode") == "RNN_RELU" else "tanh"
    if name in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        functional = torch.nn.functional
        function = state.setdefault("activation", functional.relu)
        # eval mode's fast path goes by the number, whatever the function is
        state.setdefault("activation_relu_or_gelu", {functional.relu: 1, functional.gelu: 2}.get(function, 0))
    if name == "TransformerEncoder":
        state.setdefault("enable_nested_tensor", False)
        state.setdefault("use_nested_tensor", False)


def _old_padding(module: torch.nn.Module, stated: Mapping[str, Any]) -> list[int]:
    """What is padded before a convolution of a mode other than zeros, last axis first, as the file's torch did it.

    1.5.0 gave the paddings in the axes' own order; 1.1 to 1.4 knew circular alone, and split the padding between the two sides: none
    at all where nothing is left for the second, whose empty slice took the first with it.
    """
    padding: tuple[int, ...] = module.padding  # type: ignore[assignment]
    if "_padding_repeated_twice" in stated:
        return [int(p) for p in stated["_padding_repeated_twice"]]
    if module.padding_mode == "circular":
        return [p for extent in reversed(padding) for p in (((extent + 1) // 2, extent // 2) if extent > 1 else (0, 0))]
    return [p for p in reversed(padding) for _ in (0, 1)]


def complete(module: torch.nn.Module, name: str, stated: Mapping[str, Any]) -> None:
    """Attributes that the file's torch didn't have yet, from a new instance of the class."""
    import torch

    with torch.device("meta"):
        fresh = type(module)(*_smallest(name))
    for key, value in fresh.__dict__.items():
        # what the file holds as a parameter (MultiheadAttention's bias_k) is no plain attribute, which would hide it
        held = key in module._parameters or key in module._buffers or key in module._modules
        if key not in module.__dict__ and not held and isinstance(value, (*_PLAIN, tuple)):
            module.__dict__[key] = value
    if name.startswith("Conv") and "_reversed_padding_repeated_twice" not in stated:
        module.__dict__["_reversed_padding_repeated_twice"] = _old_padding(module, stated)
    for key in fresh._buffers:
        module._buffers.setdefault(key, None)
    for key in fresh._parameters:
        # A wrapper may have taken the weight away and left weight_bar or weight_orig: it sets a plain tensor in its place.
        if not any(name.startswith(f"{key}_") for name in module._parameters):
            module._parameters.setdefault(key, None)
    if name == "CosineSimilarity" and "_load_state_dict_post_hooks" not in stated:
        module.__class__ = _old_cosine()
    flatten: Callable[[], None] | None = getattr(module, "_init_flat_weights", None)
    if flatten is not None:
        flatten()
