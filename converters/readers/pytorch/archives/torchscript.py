"""TorchScript archives: which attributes are weights, by their code; and the form of 1.0 to 1.3, whose modules are JSON.

Source: torch/csrc/jit/serialization; caffe2/proto/torch.proto.
"""

from __future__ import annotations

import json
import re
from typing import Any

from converters.errors import FormatError, UnsupportedError, printable
from converters.readers.pytorch.archives.zip import ZipArchive, ZipStorage
from converters.readers.pytorch.pickles.interface import Budget
from converters.readers.pytorch.pickles.machine import Unpickler
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sizes import count
from converters.readers.pytorch.storages import TypedStorage, make_tensor
from converters.tensors.dtypes import DTYPES
from converters.tensors.tensor import Tensor

_CODE_LIMIT = 1 << 26  # bytes of code, all together
_TYPES = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BYTE": "uint8"}
_TYPES |= {name: name.lower() for name in ("INT64", "INT32", "INT16", "INT8", "UINT8", "BOOL")}


def script_members(archive: ZipArchive, root: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]]:
    """Which attributes are parameters and buffers, by class: TorchScript's code says it (`__parameters__ = ["weight", "bias", ]`)."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {}
    size = 0
    for entry in archive.entries:
        if entry.startswith(f"{root}code/") and entry.endswith(".py"):
            size += archive.entry(entry).size
            if size > _CODE_LIMIT:
                raise FormatError(f"its code has more than {_CODE_LIMIT >> 20} MB; no model's has")
            module = entry.removeprefix(f"{root}code/").removesuffix(".py").replace("/", ".")
            text = bytes(archive.read(entry)).decode("utf-8", "replace")
            for match in _SCRIPT_CLASS.finditer(text):
                buffers = None if match[3] is None else tuple(_QUOTED.findall(match[3]))
                found[f"{module}.{match[1]}"] = (tuple(_QUOTED.findall(match[2])), buffers)
    return found


_SCRIPT_CLASS = re.compile(
    r"^class (\w+)\([\w.]*\):[ ]*\n[ ]+__parameters__ = \[([^\]\n]*)\](?:[ ]*\n[ ]+__buffers__ = \[([^\]\n]*)\])?", re.MULTILINE
)
_QUOTED = re.compile(r'"([^"\\]*)"')


# -- 1.0 to 1.3


def read_json_script(archive: ZipArchive, index: str) -> Stub:
    """The modules of model.json as Stubs. Raises FormatError for one that doesn't describe a tree of modules."""
    try:
        described = json.loads(bytes(archive.read(index)))
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"its model.json is broken ({printable(problem, 80)})") from problem
    root = index.removesuffix("model.json")
    storages: dict[str, TypedStorage] = {}
    tensors = [_json_tensor(archive, root, entry, storages) for entry in _entries(described, "tensors")]
    attributes = _json_attributes(archive, root, tensors)
    top = Stub(Global("torch.jit", "ScriptModule"))
    main = described.get("mainModule")
    if not isinstance(main, dict):
        raise FormatError("its model.json has no main module")
    pending: list[tuple[Stub, dict[str, Any]]] = [(top, main)]
    while pending:
        stub, entry = pending.pop()
        tables: dict[str, dict[str, Any]] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        stub.attributes.update(tables)
        for parameter in _entries(entry, "parameters"):
            place = _number(parameter.get("tensorId", 0), "a tensor's number")
            if place >= len(tensors):
                raise FormatError(f"its model.json refers to tensor {place} of {len(tensors)}")
            tables["_buffers" if parameter.get("isBuffer") else "_parameters"][str(parameter.get("name", ""))] = tensors[place]
        for attribute in _entries(entry, "attributes"):
            found = attributes.get(_number(attribute.get("id", 0), "an attribute's number"))
            if attribute.get("type") == "Tensor" and found is not None:
                tables["_buffers"][str(attribute.get("name", ""))] = found
        for inner in _entries(entry, "submodules"):
            child = tables["_modules"][str(inner.get("name", ""))] = Stub(Global("torch.jit", "ScriptModule"))
            pending.append((child, inner))
    return top


def _json_attributes(archive: ZipArchive, root: str, tensors: list[Tensor]) -> dict[int, Tensor]:
    """The attributes that are tensors, buffers since 1.2: attributes.pkl names them by build_tensor_from_id(number)."""
    if f"{root}attributes.pkl" not in archive.entries:
        return {}
    values = Unpickler(archive.read(f"{root}attributes.pkl"), budget=Budget(len(archive.view))).load()
    found = {}
    for number, value in enumerate(values if isinstance(values, list | tuple) else ()):
        if isinstance(value, Stub) and value.cls == _BY_NUMBER and len(value.args) == 1:
            place = count(value.args[0], "a tensor's number")
            if place >= len(tensors):
                raise FormatError(f"its attributes refer to tensor {place} of {len(tensors)}")
            found[number] = tensors[place]
    return found


_BY_NUMBER = Global("torch.jit._pickle", "build_tensor_from_id")


def _entries(described: Any, name: str) -> list[dict[str, Any]]:
    entries = described.get(name, []) if isinstance(described, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FormatError(f"its model.json has no list of {name}")
    return entries


def _number(value: Any, what: str) -> int:
    """Numbers of 64 bits are text in this JSON."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    return count(value, what)


def _json_tensor(archive: ZipArchive, root: str, entry: dict[str, Any], storages: dict[str, TypedStorage]) -> Tensor:
    element = DTYPES.get(_TYPES.get(str(entry.get("dataType")), ""))
    data = entry.get("data")
    key = data.get("key") if isinstance(data, dict) else None
    if element is None or not isinstance(key, str):
        raise UnsupportedError(f"a tensor of its model.json is of the type {printable(entry.get('dataType'), 40)}, or has no data")
    if key not in storages:
        member = archive.entry(root + key)
        storages[key] = TypedStorage(ZipStorage(archive, member, check=True), element, member.size // element.itemsize)
    shape, stride = ([_number(value, "a tensor's size") for value in entry.get(name, [])] for name in ("dims", "strides"))
    return make_tensor(storages[key], _number(entry.get("offset", 0), "a tensor's offset"), shape, stride, element=element)
