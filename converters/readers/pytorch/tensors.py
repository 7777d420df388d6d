"""Tensors, storages and numpy arrays in a pickle: the closed list of torch's rebuilding functions, as pure descriptions.

Sources: torch/_utils.py, torch/_tensor.py, torch/storage.py, torch/nn/parameter.py; numpy/_core/multiarray.py. Sizes, strides and
offsets are checked with Python integers against the storage before a tensor is made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.errors import FormatError, UnsupportedError, printable
from converters.readers.pytorch.arrays import ARRAY, ARRAY_CALLS, build_array
from converters.readers.pytorch.pickles.interface import Handler, Machine
from converters.readers.pytorch.pickles.machine import Rules
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sharded import SHARDED, build_sharded, distributed, sharded
from converters.readers.pytorch.sizes import count, counts
from converters.readers.pytorch.storages import TypedStorage, as_weight, make_old_tensor, make_tensor
from converters.tensors.dtypes import ALIASES, DTYPES, DType
from converters.tensors.storage import ArrayStorage, ConvertedStorage
from converters.tensors.tensor import Quantizer, RebuiltTensor, Tensor, TorchName, Weight

# -- torch._utils


def _rebuild_tensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_tensor(storage, offset, size, stride)"""
    return make_old_tensor(*_exactly(args, 4))


def _rebuild_tensor_v2(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])"""
    storage, offset, size, stride, requires_grad, _hooks, *more = _exactly(args, 6, 7)
    tensor = make_tensor(storage, offset, size, stride)
    tensor.requires_grad = bool(requires_grad)
    return _with_bits(tensor, more)


def _rebuild_tensor_v3(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])"""
    storage, offset, size, stride, requires_grad, _hooks, dtype, *more = _exactly(args, 7, 8)
    tensor = make_tensor(storage, offset, size, stride, element=named_dtype(dtype))
    tensor.requires_grad = bool(requires_grad)
    return _with_bits(tensor, more)


def _exactly(args: tuple[Any, ...], *lengths: int) -> tuple[Any, ...]:
    if len(args) not in range(min(lengths), max(lengths) + 1):
        raise FormatError(f"a tensor is rebuilt with {len(args)} arguments; it takes {' or '.join(map(str, lengths))}")
    return args


def _with_bits(tensor: Tensor, metadata: list[Any]) -> Tensor:
    if metadata and isinstance(metadata[0], dict):
        tensor.conj = metadata[0].get("conj") is True and tensor.torch_dtype.startswith("complex")
        tensor.neg = metadata[0].get("neg") is True
    return tensor


def named_dtype(dtype: Any) -> DType:
    """The element type that a Global such as torch.float8_e5m2 names."""
    if isinstance(dtype, Global) and dtype.module == "torch":
        element = DTYPES.get(ALIASES.get(dtype.name, dtype.name))
        if element is not None:
            return element
    raise UnsupportedError(
        f"a tensor's type is {printable(dtype) if isinstance(dtype, Global) else type(dtype).__name__}, which isn't known here"
    )


def _rebuild_qtensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks)"""
    storage, offset, size, stride, params, *_ = _exactly(args, 7)
    tensor = make_tensor(storage, offset, size, stride)
    if tensor.torch_dtype in ("quint4x2", "quint2x4"):
        return Stub(Global("torch._utils", "_rebuild_qtensor"), args)  # several elements a byte: kept apart, refused where it is a weight
    scheme = params[0] if isinstance(params, tuple) and len(params) in (3, 4) else None
    if not isinstance(scheme, Global) or scheme.module != "torch" or scheme.name not in _SCHEMES:
        raise FormatError("a quantized tensor without one of torch's quantization schemes")
    if not tensor.torch_dtype.startswith("q"):
        raise FormatError(f"a quantized tensor over a storage of {tensor.torch_dtype}")
    if _SCHEMES[scheme.name] != len(params):
        raise FormatError(f"a quantized tensor of {scheme.name} with {len(params)} quantizer fields")
    if len(params) == 3:
        if not isinstance(params[1], float) or not isinstance(params[2], int):
            raise FormatError("a quantized tensor whose scale or zero point is no number")
        tensor.quantizer = Quantizer(scheme.name, params[1], params[2])
    else:
        scales, zeros = _numbers(params[1], "float64"), _numbers(params[2], "int64")
        if not isinstance(scales, Tensor) or not isinstance(zeros, Tensor) or scales.quantizer or zeros.quantizer:
            raise FormatError("a quantized tensor whose scales or zero points are no tensors")
        tensor.quantizer = Quantizer(scheme.name, scales, zeros, count(params[3], "a quantized tensor's axis"))
    return tensor


def _numbers(value: Any, dtype: str) -> Weight | None:
    """A tensor; early versions wrote lists of numbers."""
    if isinstance(value, list) and all(isinstance(number, int | float) and abs(number) < 1e300 for number in value):
        return Tensor(ArrayStorage(np.asarray(value, dtype)), dtype, (len(value),))
    return as_weight(value)


_SCHEMES = {"per_tensor_affine": 3, "per_tensor_symmetric": 3, "per_channel_affine": 4, "per_channel_symmetric": 4}
_SCHEMES |= {"per_channel_affine_float_qparams": 4}


def _rebuild_sparse_tensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_sparse_tensor(layout, (indices, values, size[, is_coalesced])) or (layout, (compressed, plain, values, size))"""
    layout, data = _exactly(args, 2)
    if not isinstance(layout, TorchName) or not layout.arguments or not isinstance(data, tuple):
        raise FormatError("a sparse tensor without a layout")
    name = str(layout.arguments[0])
    parts: list[Any] = []
    tensors = [as_weight(part) for part in data]
    expected = 2 if name == "torch.sparse_coo" else 3
    if len(data) not in (expected + 1, expected + 2) or not all(isinstance(part, Tensor) for part in tensors[:expected]):
        raise FormatError("a sparse tensor without its indices and values")
    parts.extend(tensors[:expected])
    shape = counts(data[expected], "a sparse tensor's size")
    parts.append(TorchName("torch", "Size", (shape,)))
    if len(data) > expected + 1:
        parts.append(data[expected + 1] is True)
    values = parts[expected - 1]
    return RebuiltTensor(
        "torch._utils._rebuild_sparse_tensor", (layout, tuple(parts)), name.removeprefix("torch."), values.torch_dtype, shape
    )


def _rebuild_sparse_csr_tensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """The name that torch 1.9 and 1.10 gave to it."""
    return _rebuild_sparse_tensor(machine, args)


def _rebuild_nested_tensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_nested_tensor(buffer, sizes, strides, storage_offsets)"""
    tensors = [as_weight(arg) for arg in _exactly(args, 4)]
    buffer = tensors[0]
    if not isinstance(buffer, Tensor) or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise FormatError("a nested tensor without its tensors")
    return RebuiltTensor("torch._utils._rebuild_nested_tensor", tuple(tensors), "nested", buffer.torch_dtype, ())


def _rebuild_meta_tensor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad): a shape without numbers"""
    dtype, size, _stride, _requires_grad = _exactly(args, 4)
    return RebuiltTensor(
        "torch._utils._rebuild_meta_tensor_no_storage", args, "meta", named_dtype(dtype).name, counts(size, "a meta tensor's size")
    )


def _rebuild_wrapper_subclass(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_wrapper_subclass(cls, dtype, size, ...): a shape whose numbers are elsewhere"""
    _cls, dtype, size, *_ = _exactly(args, 3, 8)
    return RebuiltTensor("torch._utils._rebuild_wrapper_subclass", (), "meta", named_dtype(dtype).name, counts(size, "a tensor's size"))


def _rebuild_parameter(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_parameter(data, requires_grad, hooks[, state])"""
    data, *_ = _exactly(args, 1, 4)
    weight = as_weight(data)
    if weight is not None:
        return weight
    made = Stub(PARAMETER, args)
    made.data = data if isinstance(data, Stub) else None
    return made


def _rebuild_from_type(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_from_type(func, type, args, dict) and _v2: a subclass's tensor, or one with attributes of its own"""
    function, cls, inner, state = _exactly(args, 4)
    if isinstance(cls, Global) and cls.name == "DTensor" and cls.module.startswith("torch.distributed."):
        return distributed(cls, inner, state, args)
    if cls == SHARDED:
        return sharded(cls, state, args)
    if isinstance(function, Global) and isinstance(inner, tuple) and not function.name.startswith("_rebuild_from_type"):
        made = machine.call(function, inner)
        weight = as_weight(made)
        if weight is not None:
            return weight
    return Stub(cls, args)


def _rebuild_from_numpy(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_rebuild_device_tensor_from_numpy(data, dtype, device, requires_grad)"""
    data, dtype, _device, _requires_grad = _exactly(args, 4)
    return _converted(as_weight(data), dtype)


def _converted(tensor: Weight | None, dtype: Any) -> Tensor:
    """A device's tensor is stored as a CPU tensor, whose type may differ (bfloat16 as float32)."""
    if not isinstance(tensor, Tensor):
        raise FormatError("a device's tensor isn't stored as a tensor")
    element = named_dtype(dtype)
    if element is tensor.element:
        return tensor
    if element.numpy is None or tensor.element.numpy is None or tensor.quantizer or element.name.startswith("q"):
        raise UnsupportedError(f"a device's tensor of {element.name} is stored as {tensor.torch_dtype}")
    storage = ConvertedStorage(tensor.storage, tensor.element, element)
    return Tensor(storage, element.name, tensor.shape, tensor.stride, tensor.offset, conj=tensor.conj, neg=tensor.neg)


# -- classes of tensors

PARAMETER = Global("torch.nn.parameter", "Parameter")
_TENSOR_CLASSES = [
    Global(module, prefix + "Tensor")
    for module in ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
    for prefix in ("", "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
]
_WRAPPERS = [
    PARAMETER,
    Global("torch.nn", "Parameter"),
    Global("torch.nn.parameter", "Buffer"),
    Global("torch.autograd.variable", "Variable"),
    Global("torch.autograd", "Variable"),
    Global("torch._tensor", "Tensor"),
    Global("torch.tensor", "Tensor"),
]
TENSOR_CLASSES = frozenset((*_TENSOR_CLASSES, *_WRAPPERS))


def _wrapper(cls: Global) -> Handler:
    """Parameter(data), Variable(data): the data itself where it is there, else a Stub that waits for BUILD to bring it."""

    def make(machine: Machine, args: tuple[Any, ...]) -> Any:
        if args and as_weight(args[0]) is not None:
            # A Parameter is an object of its own: what BUILD gives it mustn't change the tensor it wraps.
            made = Stub(cls, args)
            made.data = args[0]
            return made
        return Stub(cls, args)

    return make


def _build_wrapper(machine: Machine, stub: Stub, state: Any) -> None:
    """A Parameter, Variable or typed tensor that is made first and filled then."""
    data = _data_of(state)
    if data is not None:
        stub.data = data


def _build_other(target: Any, state: Any) -> None:
    """The same for a tensor that is there already: it becomes what the state says, wherever it was put before."""
    if not isinstance(target, Tensor | RebuiltTensor):
        raise FormatError(f"a state is given to a {type(target).__name__}")
    data = as_weight(_data_of(state))
    if data is None:
        return
    if not isinstance(target, Tensor) or not isinstance(data, Tensor) or data.torch_dtype != target.torch_dtype:
        raise FormatError("a tensor is given another one's data of another type, which torch refuses as well")
    if target.quantizer is not None or data.quantizer is not None or target.conj or target.neg:
        raise UnsupportedError("a quantized or conjugated tensor is given other data after it is made")
    target.storage, target.offset, target.shape, target.stride = data.storage, data.offset, data.shape, data.stride
    target.conj, target.neg = data.conj, data.neg


def _data_of(state: Any) -> Any:
    """The data in a state of a tensor's or Parameter's __setstate__ over the years (torch/_tensor.py, torch/autograd/variable.py).

    (requires_grad, volatile, hooks): none; (data, grad, hooks, requires_grad, volatile); (storage, offset, size, stride).
    Raises FormatError for any other, as torch's weights_only does.
    """
    if isinstance(state, tuple):
        if len(state) == 3 and isinstance(state[0], bool):
            return None
        if len(state) == 4 and isinstance(state[0], TypedStorage):
            return make_tensor(*state)
        if len(state) == 5 and (isinstance(state[0], Stub) or as_weight(state[0]) is not None):
            return state[0]
    raise FormatError("a tensor is given a state (BUILD) that is none of torch's, so that nobody can say what it becomes")


# -- plain torch values


def _named(module: str, name: str) -> Handler:
    """A value that torch makes of text and numbers (Size, device, layout): kept as its name and arguments."""

    def make(machine: Machine, args: tuple[Any, ...]) -> Any:
        return TorchName(module, name, args)

    return make


def _size_call(machine: Machine, args: tuple[Any, ...]) -> Any:
    """torch.Size((2, 3)): the tuple itself."""
    if len(args) == 1 and isinstance(args[0], tuple | list):
        return tuple(args[0])
    return TorchName("torch", "Size", args)


def _layout(machine: Machine, args: tuple[Any, ...]) -> Any:
    if len(args) == 1 and args[0] in _LAYOUTS:
        return TorchName("torch.serialization", "_get_layout", (str(args[0]),))
    raise FormatError("a tensor's layout is none of torch's")


_LAYOUTS = tuple(f"torch.{name}" for name in ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged"))


def _graph_module(machine: Machine, args: tuple[Any, ...]) -> Any:
    """deserialize_graphmodule(body), reduce_graph_module(body, imports): torch.fx's module, whose `__dict__` is the body."""
    made = Stub(Global("torch.fx.graph_module", "GraphModule"), args[1:])
    if not args or not isinstance(args[0], dict):
        raise FormatError("a torch.fx module without its dictionary")
    made.attributes = args[0]
    return made


def _persistent(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_reconstruct_persistent_obj(meta): an object whose class's source is in the file (NVlabs' torch_utils/persistence.py)."""
    meta = args[0] if len(args) == 1 else None
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise FormatError("an object of a persistent class without the class's name")
    made = Stub(Global("torch_utils.persistence", str(meta["class_name"])))
    state = meta.get("state")
    if isinstance(state, dict):
        made.attributes = state
    else:
        made.state = state
    return made


def tensor_rules(persistent: Callable[[Any], Any] | None, nested: Callable[[Machine, Any], Any]) -> Rules:
    """What a torch pickle may build. persistent: storages by identity. nested: a storage inside bytes (torch.storage._load_from_bytes)."""

    def from_bytes(machine: Machine, args: tuple[Any, ...]) -> Any:
        return nested(machine, args[0] if len(args) == 1 else None)

    call: dict[Global, Handler] = {
        Global("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        Global("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
        Global("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
        Global("torch._utils", "_rebuild_qtensor"): _rebuild_qtensor,
        Global("torch._utils", "_rebuild_sparse_tensor"): _rebuild_sparse_tensor,
        Global("torch._utils", "_rebuild_sparse_csr_tensor"): _rebuild_sparse_csr_tensor,
        Global("torch._utils", "_rebuild_nested_tensor"): _rebuild_nested_tensor,
        Global("torch._utils", "_rebuild_meta_tensor_no_storage"): _rebuild_meta_tensor,
        Global("torch._utils", "_rebuild_wrapper_subclass"): _rebuild_wrapper_subclass,
        Global("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        Global("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
        Global("torch._utils", "_rebuild_device_tensor_from_numpy"): _rebuild_from_numpy,
        Global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _rebuild_from_numpy,
        Global("torch._utils", "_rebuild_xla_tensor"): _rebuild_from_numpy,
        Global("torch.storage", "_load_from_bytes"): from_bytes,
        Global("torch.serialization", "_get_layout"): _layout,
        Global("torch", "Size"): _size_call,
        Global("torch", "device"): _named("torch", "device"),
        **ARRAY_CALLS,
        Global("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
        Global("torch.fx.graph_module", "deserialize_graphmodule"): _graph_module,
        Global("torch.fx.graph_module", "reduce_graph_module"): _graph_module,
    }
    for module in ("torch._tensor", "torch.tensor"):
        call[Global(module, "_rebuild_from_type")] = call[Global(module, "_rebuild_from_type_v2")] = _rebuild_from_type
    call |= {cls: _wrapper(cls) for cls in TENSOR_CLASSES}
    build = dict.fromkeys(TENSOR_CLASSES, _build_wrapper)
    build[ARRAY] = build_array
    build[SHARDED] = build_sharded
    new = {cls: call[cls] for cls in TENSOR_CLASSES}
    return Rules(call=call, new=new, build=build, build_other=_build_other, persistent=persistent)
