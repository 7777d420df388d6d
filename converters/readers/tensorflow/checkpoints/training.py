"""What of a checkpoint is the net: an optimizer's memory and moving averages told apart, and torch's layout and names for the rest.

Sources: TensorFlow's python/training/{slot_creator,moving_averages,saver}.py; tf_slim's layers.
"""

from __future__ import annotations

import re

from converters.errors import ConversionError, printable
from converters.tensors.state_dict import TORCH_WORDS, LeftOut, StateDict, rename
from converters.tensors.tensor import Tensor

AVERAGE = "ExponentialMovingAverage"
_SLOT = re.compile(
    r"(Momentum|Adam|Adagrad|Ftrl|RMSProp|Adadelta|AdamW|AdaMax|Nesterov|LARSOptimizer|GradientDescent|RMSprop)(_\d+)?|biased|local_step"
)
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What TensorFlow 2 writes behind the path of a variable among a program's objects."""
_OBJECT_SLOT = re.compile(r"(^|/)(\.OPTIMIZER_SLOT|optimizer|_optimizer|keras_api|save_counter)(/|$)")
_COUNTERS = frozenset({"global_step", "beta1_power", "beta2_power", "local_step", "save_counter"})
_KERNELS = frozenset({"weights", "kernel", "pointwise_weights", "pointwise_kernel", "filter"})
_DEPTHWISE = frozenset({"depthwise_weights", "depthwise_kernel"})
_WORDS = {
    **TORCH_WORDS,
    **dict.fromkeys((*_KERNELS, *_DEPTHWISE), "weight"),
    "biases": "bias",
    "moving_variance": "running_var",
}


def prepare(state: StateDict, asked: frozenset[str]) -> frozenset[str]:
    """The net without its optimizer, and what else is asked: ema, torch_layout, torch_names. Answers what was done of that."""
    net_alone(state, ema="ema" in asked)
    if "torch_layout" in asked:
        torch_layout(state)
    if "torch_names" in asked:
        torch_names(state)
    return asked


def net_alone(state: StateDict, *, ema: bool) -> None:
    """Moves what an optimizer keeps, counters and moving averages from the weights to what is left out.

    ema: take each variable's moving average for the variable, as evaluations of Inception and MobileNet do.
    Raises ConversionError where that is asked for and there are none.
    """
    averages = [name for name in state.tensors if name.rpartition("/")[2] == AVERAGE]
    if ema and not averages:
        raise ConversionError("this checkpoint holds no moving averages (NAME/ExponentialMovingAverage)", hint="leave --ema out")
    chosen = {name.rpartition("/")[0]: state.tensors[name] for name in averages} if ema else {}
    kept = {}
    for name, tensor in state.tensors.items():
        last = _last(name)
        is_slot = bool(_OBJECT_SLOT.search(name)) if name.endswith(_OBJECT) else bool(_SLOT.fullmatch(last)) and "/" in name
        if is_slot or last in _COUNTERS or last == AVERAGE:
            if last != AVERAGE or not ema:
                state.left_out.append(LeftOut(name, "optimizer" if is_slot else "tensor", tensor.torch_dtype, tuple(tensor.shape)))
            continue
        kept[name] = chosen.pop(name, tensor)
    kept.update(chosen)
    if not kept:
        raise ConversionError("this checkpoint holds an optimizer's memory and counters alone")
    state.tensors = kept


def _last(name: str) -> str:
    """What a variable is within its scope: weights, bias."""
    return name.removesuffix(_OBJECT).rpartition("/")[2]


def torch_layout(state: StateDict) -> None:
    """Weights as torch has them, as views: convolutions (out, in, h, w), depthwise ones (channels, 1, h, w), dense ones (out, in).

    Those of sequences have no h.
    """
    for name, tensor in state.tensors.items():
        last = _last(name)
        if isinstance(tensor, Tensor) and tensor.ndim >= 2 and last in _KERNELS | _DEPTHWISE:
            state.tensors[name] = _depthwise(tensor) if last in _DEPTHWISE and tensor.ndim > 2 else _turned(tensor)


def _turned(x: Tensor) -> Tensor:
    axes = [x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)]
    return Tensor(x.storage, x.torch_dtype, tuple(x.shape[axis] for axis in axes), tuple(x.stride[axis] for axis in axes), x.offset)


def _depthwise(x: Tensor) -> Tensor:
    *kernel, channels, multiplier = x.shape
    return Tensor(x.storage, x.torch_dtype, (channels * multiplier, 1, *kernel), (x.stride[-1], 1, *x.stride[:-2]), x.offset)


def torch_names(state: StateDict) -> None:
    """Names as torch has them: dots between scopes, weight, bias, running_mean, running_var. Two that would be one keep their own words."""
    names = {}
    for name in state.tensors:
        scope, _, last = name.removesuffix(_OBJECT).rpartition("/")
        names[name] = ".".join([*filter(None, scope.split("/")), _WORDS.get(last, last)])
    counts: dict[str, int] = {}
    for new in names.values():
        counts[new] = counts.get(new, 0) + 1
    plain = {name: new if counts[new] == 1 else name.replace("/", ".") for name, new in names.items()}
    if len(set(plain.values())) != len(plain):
        twice = next(new for new in plain.values() if list(plain.values()).count(new) > 1)
        raise ConversionError(f"two variables would be called '{printable(twice)}'", hint="leave --torch-names out")
    rename(state, plain, {})
