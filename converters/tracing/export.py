"""Whole-model PyTorch files to the common graph: rebuilt (or built by trusted code), exported by torch.onnx, checked against the module.

What runs, and when: a model made of classes of torch.nn alone is rebuilt from a closed list, and nothing of the file runs. A model with
classes of its own needs its code, which runs only where it is trusted. A TorchScript archive is a program too.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from converters import packages
from converters.errors import ConversionError, UnsupportedError, about, printable
from converters.files import StrPath
from converters.graph.builder import OPSET
from converters.options import LoadOptions
from converters.readers.pytorch.archives.archive import Checkpoint, read_checkpoint
from converters.readers.pytorch.choose import resolve, select
from converters.readers.pytorch.modules import is_module
from converters.readers.pytorch.pickles.stubs import Stub
from converters.runtimes.compare import TOLERANCE, difference
from converters.runtimes.torch import run_tensors
from converters.tensors.tensor import RebuiltTensor
from converters.tracing.rebuild import own_classes, rebuild, to_torch
from converters.trust import Code, run_script
from converters.version import __version__

if TYPE_CHECKING:
    import onnx_ir
    import torch

_COARSE = 2e-2
"""What numbers of 16 bits may differ by."""


def load(files: Sequence[StrPath], options: LoadOptions) -> onnx_ir.Model:
    """The graph of a whole-model file, or of a checkpoint whose model `options.factory` builds.

    inputs: shapes by the forward's argument names ("" for the only one). key: where the model, or with a factory its weights, sit in
    the file. code: the folder of the model's own Python code, which runs only with trust. Raises ConversionError.
    """
    path = files[0]
    if len(files) != 1:
        raise ConversionError(f"a PyTorch model is one file, {len(files)} are given", path=os.fspath(path))
    file = os.fspath(path)
    folder = None if options.code is None else Path(options.code)
    if folder is not None and not folder.is_dir():
        raise ConversionError(f"{folder}: --code must be a folder with the model's Python files")
    checkpoint = read_checkpoint(path)
    packages.check("torch", "onnxscript", extra="torch2onnx")
    code = Code(folder) if folder is not None and options.trust else None
    with code.importing() if code is not None else contextlib.nullcontext(), about(path):
        if options.factory is not None:
            module = _build(checkpoint, file, options, code)
        elif checkpoint.form == "TorchScript":
            module = run_script(path, trust=options.trust, notify=options.notify)
        else:
            module = _whole(checkpoint, file, options, code)
        return export_module(module, options.shapes, file, options.dynamic, options.dtypes)


def _tell(options: LoadOptions, line: str) -> None:
    if options.notify is not None:
        options.notify(line)


def _whole(checkpoint: Checkpoint, file: str, options: LoadOptions, code: Code | None) -> Any:
    """The module that the file holds."""
    root = _module_in(checkpoint.root) if options.key is None else resolve(checkpoint.root, options.key)[0]
    if not is_module(root):
        raise ConversionError(f"'{printable(options.key)}' is no model; for weights give what builds the model: --model")
    own = own_classes(root)
    if not own:
        return rebuild(root)
    shown = ", ".join(printable(name) for name in own[:20])
    source = " (their source is in the file: strip-to-weights --source DIR writes it out)" if checkpoint.sources else ""
    if code is None:
        raise UnsupportedError(
            f"the model is made of classes of its own: {shown}; their code has to run to know what they compute{source}. "
            "Read it, then give its folder and say that you trust it: --code DIR --trust"
        )
    _tell(options, f"{file}: running the code of {code.folder}: importing {shown}; nothing that is pickled in the file itself runs")
    return rebuild(root, code)


def _module_in(root: Any) -> Stub:
    """The only module of a file, or of the dictionary in it."""
    if is_module(root):
        return cast("Stub", root)
    if isinstance(root, dict):
        found = {str(name): value for name, value in root.items() if is_module(value)}
        if len(found) == 1:
            return cast("Stub", next(iter(found.values())))
        if found:
            raise ConversionError(f"holds several models: {', '.join(map(printable, found))}; choose one with --key")
    raise ConversionError("holds weights but no model; give the code that builds it: --code DIR --trust --model module:function")


def _build(checkpoint: Checkpoint, file: str, options: LoadOptions, code: Code | None) -> Any:
    """What the factory builds, with the file's weights loaded strictly."""
    import torch

    factory = options.factory or ""
    if code is None:
        raise UnsupportedError(
            f"{printable(factory)} has to run to build the model; give its folder and say that you trust it: --code DIR --trust"
        )
    state = select(checkpoint, options.key)
    _tell(options, f"{file}: running {factory} from {code.folder}; nothing that is pickled in the file itself runs")
    module = code.build(factory)
    if not isinstance(module, torch.nn.Module):
        raise ConversionError(f"{factory} in {code.folder}: gave a {type(module).__name__}, not a torch.nn.Module")
    weights = {}
    for name, weight in state.tensors.items():
        if isinstance(weight, RebuiltTensor):
            raise UnsupportedError(f"'{printable(name)}' is no plain tensor")
        weights[name] = to_torch(weight)
    expected = module.state_dict()
    for prefix in ("module.", "_orig_mod."):
        if weights and all(name.startswith(prefix) for name in weights) and not any(name.startswith(prefix) for name in expected):
            weights = {name[len(prefix) :]: weight for name, weight in weights.items()}
    for name, tensor in expected.items():  # files of torch 0.3 and before have no such counters, and inference needs none
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, tensor)
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as problem:
        raise ConversionError(f"the weights don't fit {factory}: {printable(' '.join(str(problem).split()), 600)}") from problem
    return module.eval()


# -- from the module to the graph ---------------------------------------------------------------------------------------


def export_module(
    module: torch.nn.Module,
    inputs: Mapping[str, Sequence[int]],
    file: str,
    dynamic: Mapping[tuple[str, int], str] | None = None,
    dtypes: Mapping[str, str] | None = None,
) -> onnx_ir.Model:
    """The graph of a module in eval mode, checked: it gives the module's own numbers. The first axis stays symbolic where it can.

    file: where the module comes from, for messages. dynamic: labels of axes that stay open besides the first. dtypes: the types
    of inputs that aren't the weights'. Raises ConversionError.
    """
    with about(file):
        return _export(module, inputs, file, dynamic or {}, dtypes or {})


def _export(
    module: torch.nn.Module,
    inputs: Mapping[str, Sequence[int]],
    file: str,
    dynamic: Mapping[tuple[str, int], str],
    dtypes: Mapping[str, str],
) -> onnx_ir.Model:
    import torch

    module = _without_random_slopes(module.eval())
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    names, shapes = _arguments(module, inputs, file)
    usual = next((p.dtype for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()), torch.float32)
    types = [
        getattr(torch, word) if (word := dtypes.get(name) or (dtypes.get("") if len(names) == 1 else None)) else usual for name in names
    ]
    problem: Exception | None = None
    for symbolic in (True, False):
        if symbolic and not all(shapes):
            continue
        samples = [[max(shape[0], 2), *shape[1:]] if symbolic else shape for shape in shapes]
        arrays = [_sample(shape, dtype) for shape, dtype in zip(samples, types, strict=True)]
        try:
            with torch.no_grad():
                expected = module(*arrays)
        except Exception as trouble:
            if symbolic:
                problem = trouble
                continue
            raise ConversionError(
                f"the model doesn't run on inputs of {', '.join(str(tuple(s)) for s in shapes)}: {printable(_line(trouble), 300)}",
                hint="give the right shape with --input" if _OF_SHAPES.search(str(trouble)) else None,
            ) from trouble
        try:
            model = _program(module, names, arrays, _open_axes(names, dynamic, symbolic))
        except ConversionError as trouble:
            problem = trouble
            continue
        model = _finish(model, file, dynamic)
        _check(model, arrays, expected, file)
        return model
    raise ConversionError(f"{printable(_line(problem), 400)}") from problem


def _without_random_slopes(module: torch.nn.Module) -> torch.nn.Module:
    """nn.RReLU, which torch.onnx doesn't know, is in eval mode a leaky one with the mean slope."""
    import torch
    from torch import nn

    if isinstance(module, torch.jit.ScriptModule):
        return module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.RReLU:
                parent._modules[name] = nn.LeakyReLU((child.lower + child.upper) / 2)
    return nn.LeakyReLU((module.lower + module.upper) / 2) if type(module) is nn.RReLU else module


def _line(problem: BaseException | None) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[0]) if lines else type(problem).__name__


_OF_SHAPES = re.compile(r"shape|size|dimension|channels|multiplied|out of bounds|numel|[1-5]D ", re.IGNORECASE)
"""What torch says where an input's shape is at fault."""


def _sample(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    import torch

    generator = np.random.default_rng(0)
    if not dtype.is_floating_point:  # 0 and 1 are indices of any table
        return torch.from_numpy(generator.integers(0, 2, tuple(shape))).to(dtype)
    return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32)).to(dtype)


def _arguments(module: torch.nn.Module, inputs: Mapping[str, Sequence[int]], file: str) -> tuple[list[str], list[list[int]]]:
    """The names of forward's arguments, and the shapes given for them."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = getattr(module.forward, "schema")  # noqa: B009
        known = [argument.name for argument in schema.arguments[1:]]
        needed = known
    else:
        parameters = [
            p for p in inspect.signature(module.forward).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        known = [p.name for p in parameters] or ["input"]
        needed = [p.name for p in parameters if p.default is p.empty] or known[:1]
    if not inputs:
        raise ConversionError(
            f"a PyTorch file doesn't say what its inputs are; give the shape of {', '.join(needed)}: "
            + " ".join(f"--input {name}=1x3x224x224" for name in needed)
        )
    given = dict(inputs)
    if "" in given and len(given) == 1:
        given = {needed[0]: given[""]}
    elif len(given) == 1 and len(needed) == 1 and next(iter(given)) not in known:
        raise ConversionError(f"the model's input is named {needed[0]}, not {printable(next(iter(given)))}")
    missing = [name for name in needed if name not in given]
    strange = [name for name in given if name not in known]
    if missing or strange:
        words = [f"the shape of {', '.join(missing)} is missing"] if missing else []
        words += [f"{', '.join(map(printable, strange))} isn't one of its inputs"] if strange else []
        raise ConversionError(f"{'; '.join(words)}; the model takes {', '.join(known)}")
    names = [name for name in known if name in given]
    return names, [[int(d) for d in given[name]] for name in names]


def _open_axes(names: list[str], dynamic: Mapping[tuple[str, int], str], symbolic: bool) -> list[set[int]]:
    """The axes of each input that stay open: the first, where it can, and those that were asked for."""
    asked = [{axis for name, axis in dynamic if name == given or (not name and len(names) == 1)} for given in names]
    return [axes | ({0} if symbolic else set()) for axes in asked]


def _program(module: torch.nn.Module, names: list[str], arrays: list[torch.Tensor], axes: list[set[int]]) -> onnx_ir.Model:
    """torch.onnx's program of the module."""
    import torch

    packages.require("torch", "onnxscript", extra="torch2onnx")
    import onnxscript.optimizer  # type: ignore[import-untyped, unused-ignore]

    shapes: Any = tuple(dict.fromkeys(sorted(open_axes), torch.export.Dim.DYNAMIC) for open_axes in axes) if any(axes) else None
    quiet = logging.getLogger("torch.onnx")
    before = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            if isinstance(module, torch.jit.ScriptModule):
                return _legacy_program(module, names, arrays, axes)
            program = torch.onnx.export(
                module,
                tuple(arrays),
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                dynamic_shapes=shapes,
                optimize=False,
                verbose=False,
                external_data=False,
            )
            if program is None:
                raise ConversionError("torch.onnx gave no program")
            # a weight that is transposed on its way to a MatMul keeps its name and shape
            onnxscript.optimizer.fold_constants(program.model, should_fold=lambda node: False if node.op_type == "Transpose" else None)
    except ConversionError:
        raise
    except Exception as problem:  # torch.export fails in ways of its own
        cause = problem.__cause__ or problem
        raise ConversionError(f"torch.export can't follow the model: {printable(_line(cause), 400)}") from problem
    finally:
        quiet.setLevel(before)
    model: onnx_ir.Model = program.model
    return model


def _legacy_program(module: Any, names: list[str], arrays: list[torch.Tensor], axes: list[set[int]]) -> onnx_ir.Model:
    """TorchScript goes through torch.onnx's own walk over its graph."""
    import onnx
    import onnx_ir as ir
    import torch

    target: Any = io.BytesIO()
    labels = {
        name: {axis: f"{name}_{axis}" if axis else "N" for axis in open_axes}
        for name, open_axes in zip(names, axes, strict=True)
        if open_axes
    }
    torch.onnx.export(
        module,
        tuple(arrays),
        target,
        dynamo=False,
        opset_version=OPSET,
        input_names=names,
        dynamic_axes={name: found for name, found in labels.items() if found} or None,
        verbose=False,
    )
    model: onnx_ir.Model = ir.from_proto(onnx.ModelProto.FromString(target.getvalue()))
    return model


def _finish(model: onnx_ir.Model, file: str, dynamic: Mapping[tuple[str, int], str]) -> onnx_ir.Model:
    """Makes the exporter's graph one of ours: keys, symbolic batch, sources, constants."""
    import onnx_ir as ir

    from converters.graph.builder import IR_VERSION
    from converters.readers.onnx.reader import from_model

    rename: dict[str, str] = {}
    for value in model.graph.inputs:
        first = value.shape[0] if value.shape else None
        if isinstance(first, ir.SymbolicDim) and first.value is not None:
            rename[first.value] = "N" if not rename else f"N_{len(rename)}"
    for value in model.graph.inputs:
        for (name, axis), label in dynamic.items():
            size = value.shape[axis] if value.shape is not None and name in ("", value.name) and axis < len(value.shape) else None
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                rename[size.value] = label
    for node in model.graph:
        for output in node.outputs:
            _rename_dims(output, rename)
    for value in model.graph.inputs:
        _rename_dims(value, rename)
    model.producer_name, model.producer_version = "converters", __version__
    model.metadata_props.clear()
    for value in model.graph.initializers.values():
        if value.const_value is not None:  # plain arrays: the exporter's tensors hold on to the module
            value.const_value = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=value.name)
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    model = from_model(model, file)
    model.ir_version = IR_VERSION
    return model


def _rename_dims(value: Any, rename: Mapping[str, str]) -> None:
    import onnx_ir as ir

    if value.shape is None:
        return
    value.shape = ir.Shape([d if isinstance(d, int) else (None if d.value is None else rename.get(d.value, d.value)) for d in value.shape])


def _check(model: onnx_ir.Model, arrays: list[torch.Tensor], expected: Any, file: str) -> None:
    """Runs the graph as PyTorch source; raises ConversionError where it doesn't give the module's numbers."""
    import torch

    got = run_tensors(model, arrays)
    wanted = [t for t in _flat(expected) if isinstance(t, torch.Tensor)]
    if len(wanted) != len(got):
        raise ConversionError(f"the exported graph has {len(got)} outputs, the model {len(wanted)}")
    for number, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        if ours.shape != theirs.shape:
            raise ConversionError(f"output {number} has shape {tuple(ours.shape)} once exported, {tuple(theirs.shape)} in PyTorch")
        coarse = theirs.dtype in (torch.float16, torch.bfloat16)
        compared = difference(f"output {number}", ours.double().numpy(), theirs.double().numpy())
        if compared.error > (_COARSE if coarse else TOLERANCE):
            how = compared.note or f"by {compared.error:.2g} of its largest number"
            raise ConversionError(f"output {number} differs once exported: {how}")


def _flat(value: Any) -> list[Any]:
    """Tensors of nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Mapping):
        return [leaf for part in value.values() for leaf in _flat(part)]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]


__all__ = ["export_module", "load"]
