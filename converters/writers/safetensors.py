"""Safetensors files: an 8-byte length, a JSON header, then the tensors' bytes, streamed.

Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from converters.errors import ConversionError, UnsupportedError
from converters.files import StrPath, writing
from converters.tensors.storage import ArrayStorage
from converters.tensors.tensor import EXPANDED, Tensor, as_tensors, check_repeated, ties

_MOST_TIES = 64
"""How many times as many bytes as there are tied tensors may become, when each is written in full."""


def write_safetensors(path: StrPath, tensors: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None, force: bool = False) -> None:
    """Writes an ordered mapping of names to array-likes; the header lists them in that order.

    The format has neither strides nor shared memory: each tensor is written in full, row by row, and the groups that were tied
    are named under `tied` in the header's metadata. metadata: text to text. Raises UnsupportedError, naming all of them, for
    types the format doesn't have (quantized, sparse, complex128...), and OutputExistsError where path exists and force is off.
    """
    found: dict[str, Tensor] = {}
    refused = []
    for name, tensor in as_tensors(tensors).items():
        if isinstance(tensor, Tensor) and tensor.element.safetensors:
            found[name] = tensor
        else:
            refused.append(f"{name} ({tensor.torch_dtype if isinstance(tensor, Tensor) else tensor.layout})")
    if "__metadata__" in found:
        raise ConversionError("a tensor is named __metadata__, which safetensors keeps for itself; write a .pth")
    if refused:
        shown = ", ".join(refused[:10]) + (f" and {len(refused) - 10} more" if len(refused) > 10 else "")
        raise UnsupportedError(f"safetensors has no form for {shown}; write a .pth, which keeps them as they are")
    # Larger elements first: whatever their shapes, each tensor's data then begins on a multiple of its element size.
    ordered = sorted(found, key=lambda name: -found[name].element.itemsize)
    places, at = {}, 0
    for name in ordered:
        places[name] = [at, at + found[name].nbytes]
        at += found[name].nbytes
    notes = {"format": "pt", **(metadata or {})}
    if tied := ties(found):
        notes["tied"] = json.dumps(tied)
    header: dict[str, Any] = {"__metadata__": notes}
    for name, tensor in found.items():
        header[name] = {"dtype": tensor.element.safetensors, "shape": list(tensor.shape), "data_offsets": places[name]}
    text = _encode(header)
    for name in ordered:  # before any room is taken on the disk
        check_repeated(name, found[name], found[name].nbytes, "safetensors would hold them all, a .pth needn't")
    held = sum({id(tensor.storage): tensor.storage.held for tensor in found.values()}.values())
    if at > max(EXPANDED, _MOST_TIES * held):
        raise ConversionError(f"its {len(found)} tensors repeat {held} bytes to {at}; safetensors would hold them all, a .pth needn't")
    with writing(path, force=force, size=at) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            for chunk in _row_major(name, found[name]):
                file.write(chunk)


def _encode(header: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as problem:
        raise ConversionError("a tensor's name holds half a character (a lone surrogate); safetensors can't write it") from problem
    return text + b" " * (-len(text) % 8)


def _row_major(name: str, tensor: Tensor) -> Iterator[memoryview]:
    """A tensor's bytes in row-major order, whatever its strides."""
    if tensor.contiguous and not tensor.conj and not tensor.neg:
        return tensor.storage.chunks(*tensor.span())
    return ArrayStorage(tensor.numpy()).chunks(0, tensor.nbytes)
