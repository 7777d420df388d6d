"""From a module to the graph: exported by torch.onnx, its weights under their own names, checked against the module."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters import packages
from converters.errors import ConversionError, about, printable
from converters.graph.builder import OPSET
from converters.packages import __version__
from converters.runtimes.compare import TOLERANCE
from converters.tracing.arguments import Argument, Signature, batch_axes, flat, of_batch, sample, type_choices
from converters.tracing.checks import COARSE, FAR, DifferentError, Runner, compare, line_of, runners_of
from converters.tracing.flat import Flat
from converters.tracing.refusals import refusal
from converters.tracing.standins import with_standins
from converters.tracing.torchscript import script_program
from converters.trust import OLD_PROGRAM

if TYPE_CHECKING:
    import onnx_ir
    import torch


def export_module(
    module: torch.nn.Module,
    inputs: Mapping[str, Sequence[int]],
    file: str,
    dynamic: Mapping[tuple[str, int], str] | None = None,
    dtypes: Mapping[str, str] | None = None,
    output_names: Sequence[str] = (),
) -> onnx_ir.Model:
    """The graph of a module in eval mode, checked: it gives the module's own numbers. The first axis stays symbolic where it can.

    file: where the module comes from, for messages. dynamic: labels of axes that stay open besides the first. dtypes: the types
    of inputs that aren't the weights'. output_names: what the outputs are called. Raises ConversionError.
    """
    with about(file):
        return _Export(module, inputs, file, dynamic or {}, dtypes or {}).model(output_names)


_OF_SHAPES = re.compile(r"shape|size|dimension|channels|multiplied|out of bounds|numel|[1-5]D ", re.IGNORECASE)
"""What torch says where an input's shape is at fault."""


class _Export:
    """One module on its way to a graph."""

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Mapping[str, Sequence[int]],
        file: str,
        dynamic: Mapping[tuple[str, int], str],
        dtypes: Mapping[str, str],
    ) -> None:
        import torch

        self.is_old = getattr(module, OLD_PROGRAM, False)  # copies of a program lose it
        self.module = with_standins(module.eval())
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self.file, self.dynamic = file, dynamic
        self.signature = Signature(self.module)
        self.arguments = self.signature.arguments(inputs, dtypes)
        held = [*self.module.parameters(), *self.module.buffers()]
        self.usual = next((p.dtype for p in held if p.is_floating_point()), torch.float32)
        self.types: list[torch.dtype] = []
        self.exported: Any = None  # torch.export's program, where there is one
        self.graph: onnx_ir.Model | None = None
        self.batch: list[int | None] = []  # the axis of each input that is its batch
        self.longest = 0  # above 0: integers of one axis are lengths, from 1 to this

    def model(self, output_names: Sequence[str]) -> onnx_ir.Model:
        """The graph with an open batch, else with the batch that was given."""
        shapes = [argument.shape for argument in self.arguments]
        expected = self._first_run(shapes)
        if output_names and len(output_names) != len(expected):
            raise ConversionError(f"{len(output_names)} names are given for {len(expected)} outputs")
        problem: ConversionError | None = None
        for self.batch in batch_axes(shapes):
            placed = zip(shapes, self.batch, strict=True)
            samples = [shape if axis is None else of_batch(shape, axis, max(shape[axis], 2)) for shape, axis in placed]
            try:
                if samples != shapes:
                    self._run(samples)
                model = self._program(samples)
                model = _finish(model, self.file, self.dynamic, self.arguments, set(self.module.state_dict()))
                self._check(model, samples)
            except ConversionError as trouble:
                problem = trouble
                continue
            _name_outputs(model, output_names or [name for name, _ in expected])
            return model
        raise problem or ConversionError("it has no form in ONNX")

    def _first_run(self, shapes: Sequence[Sequence[int]]) -> list[tuple[str, Any]]:
        """Chooses the inputs' types; what the module answers."""
        first: ConversionError | None = None
        for types in type_choices(self.arguments, self.usual):
            self.types = types
            for self.longest in (0, min((shape[1] for shape in shapes if len(shape) > 1), default=1)):
                try:
                    return self._run(shapes)
                except ConversionError as trouble:
                    first = first or trouble
                    last = str(trouble)
                if not re.search(r"[Ll]ength|index -\d+ is out of bounds", last):
                    break
            if not re.search(r"indices|Long|Int|integ|index|[Ll]ength", last):
                break
        assert first is not None
        raise first

    def _run(self, shapes: Sequence[Sequence[int]], seed: int = 0, scale: float = 1.0, signed: bool = False) -> list[tuple[str, Any]]:
        """The answers of a copy of the module to copies of a sample: it may change its inputs and itself."""
        import torch

        try:
            with torch.no_grad():
                answer = self.signature.call(_copy(self.module), self.arguments, self._samples(shapes, seed, scale, signed))
        except Exception as trouble:
            raise ConversionError(
                f"the model doesn't run on inputs of {', '.join(str(tuple(s)) for s in shapes)}: {printable(line_of(trouble), 300)}",
                hint="give the right shape with --input" if _OF_SHAPES.search(str(trouble)) else None,
            ) from trouble
        return [(name, value) for name, value in flat(answer) if isinstance(value, torch.Tensor)]

    def _samples(self, shapes: Sequence[Sequence[int]], seed: int = 0, scale: float = 1.0, signed: bool = False) -> list[torch.Tensor]:
        given = enumerate(zip(shapes, self.types, strict=True))
        return [sample(shape, dtype, seed + n, scale, self.longest, signed) for n, (shape, dtype) in given]

    def _program(self, shapes: Sequence[Sequence[int]]) -> onnx_ir.Model:
        """torch.onnx's program of the module."""
        import torch

        packages.require("torch", "onnxscript", extra="torch2onnx")
        names = [argument.name for argument in self.arguments]
        axes = _open_axes(names, self.dynamic, self.batch)
        self.exported = None
        quiet = logging.getLogger("torch.onnx")
        before = quiet.level
        quiet.setLevel(logging.ERROR)
        try:
            with _plain_transformers(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                module = _copy(self.module)
                if isinstance(module, torch.jit.ScriptModule):
                    return script_program(module, names, self._samples(shapes), axes, is_old=self.is_old)
                whole = Flat(module, self.signature, self.arguments)
                model, self.exported = _dynamo_program(whole, names, self._samples(shapes), axes)
                return model
        except ConversionError:
            raise
        except Exception as problem:  # torch.export fails in ways of its own
            raise refusal(problem) from problem
        finally:
            quiet.setLevel(before)

    def _check(self, model: onnx_ir.Model, samples: Sequence[Sequence[int]]) -> None:
        """Runs the graph as PyTorch source beside the module: on the sample, far from zero, and at other batches where one is open."""
        given = [argument.shape for argument in self.arguments]
        self.graph = model
        with runners_of(model, self.types) as runners:
            self._compare(runners, samples)
            self._compare_others(runners, samples, given)

    def _compare(self, runners: Sequence[Runner], shapes: Sequence[Sequence[int]], far: bool = False) -> None:
        seed, scale = (7, FAR) if far else (0, 1.0)
        expected = self._run(shapes, seed, scale)
        self._compare_to(expected, runners, self._samples(shapes, seed, scale), COARSE if far else TOLERANCE)

    def _compare_to(
        self, expected: Sequence[tuple[str, Any]], runners: Sequence[Runner], tensors: Sequence[torch.Tensor], tolerance: float
    ) -> None:
        """Raises ConversionError that names the step where the graph begins to differ, where that can be found."""
        try:
            for run in runners:
                compare(run, [tensor.clone() for tensor in tensors], expected, tolerance)
        except DifferentError as problem:
            if self.exported is None or self.graph is None:
                raise
            from converters.tracing.blame import explained, first_step

            raise explained(problem, first_step(self.exported, self.graph, tensors, tolerance)) from None

    def _compare_signed(self, runners: Sequence[Runner], shapes: Sequence[Sequence[int]]) -> None:
        """On integers of both signs, which quotients and remainders show, where the module takes such and has numbers for them."""
        import torch

        if not any(dtype.is_signed and not dtype.is_floating_point for dtype in self.types):
            return
        try:
            expected = self._run(shapes, 11, signed=True)
        except ConversionError:
            return  # indices, say
        if all(bool(torch.isfinite(value).all()) for _, value in expected):
            self._compare_to(expected, runners, self._samples(shapes, 11, signed=True), COARSE)

    def _compare_others(self, runners: Sequence[Runner], samples: Sequence[Sequence[int]], given: Sequence[Sequence[int]]) -> None:
        self._compare(runners, samples, far=True)
        self._compare_signed(runners, samples)
        sizes = {shape[axis] for shape, axis in zip(given, self.batch, strict=True) if axis is not None}
        if not sizes:
            return
        others = [given] if list(map(tuple, given)) != list(map(tuple, samples)) else []
        others += [[of_batch(*pair, batch) for pair in zip(given, self.batch, strict=True)] for batch in (1, 3) if len(sizes) == 1]
        for shapes in others:
            try:
                self._run(shapes)
            except ConversionError:
                continue  # the module itself takes no such batch
            self._compare(runners, shapes)


@contextlib.contextmanager
def _plain_transformers() -> Iterator[None]:
    """Without the fused layers of eval mode, and without a look at the numbers of a mask to see whether it is a causal one."""
    import torch
    from torch.nn.modules import transformer

    fast, detect = torch.backends.mha.get_fastpath_enabled(), getattr(transformer, "_detect_is_causal_mask", None)
    torch.backends.mha.set_fastpath_enabled(False)
    if detect is not None:
        transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        if detect is not None:
            transformer._detect_is_causal_mask = detect


def _copy(module: Any) -> Any:
    """A copy that a run may change, where the module can be copied."""
    import copy

    try:
        return copy.deepcopy(module)
    except Exception:  # objects of others that don't say how
        return module


def _open_axes(names: list[str], dynamic: Mapping[tuple[str, int], str], batch: Sequence[int | None]) -> list[set[int]]:
    """The axes of each input that stay open: the first, where it can, and those that were asked for."""
    asked = [{axis for name, axis in dynamic if name == given or (not name and len(names) == 1)} for given in names]
    return [axes | (set() if axis is None else {axis}) for axes, axis in zip(asked, batch, strict=True)]


def _dynamo_program(module: Any, names: list[str], arrays: list[torch.Tensor], axes: list[set[int]]) -> tuple[onnx_ir.Model, Any]:
    """torch.onnx's program of a module, with its weights as they are and under their own names, and torch.export's."""
    import onnxscript.optimizer  # type: ignore[import-untyped, unused-ignore]
    import torch

    from converters.tracing.spellings.packing import Packing
    from converters.tracing.spellings.respelled import Respelled

    shapes: Any = tuple(dict.fromkeys(sorted(open_axes), torch.export.Dim.DYNAMIC) for open_axes in axes)
    with Packing() as packing, Respelled(packing.spellings):
        program = torch.onnx.export(
            module,
            tuple(arrays),
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            dynamic_shapes={"tensors": shapes} if any(axes) else None,
            optimize=False,
            verbose=False,
            external_data=False,
        )
    if program is None:
        raise ConversionError("torch.onnx gave no program")
    model: onnx_ir.Model = program.model
    _rename(model, module)
    held = set(module.names.values())
    # what the weights go through on their way stays in the graph, so that they keep their names and shapes
    onnxscript.optimizer.fold_constants(
        model, should_fold=lambda node: False if any(v is not None and v.name in held for v in node.inputs) else None
    )
    _keep_made_weights_constant(model, held)
    return model, getattr(program, "exported_program", None)


def _keep_made_weights_constant(model: onnx_ir.Model, held: set[str]) -> None:
    """torch.onnx gives an instance norm without weights such of ones and zeros: no module has them, so that they are constants."""
    import onnx_ir

    for node in list(model.graph):
        for value in node.inputs[1:3] if node.op_type == "InstanceNormalization" else ():
            made = None if value is None or value.name in held else onnx_ir.convenience.get_const_tensor(value)
            if made is not None:
                constant = onnx_ir.Node("", "Constant", [], [onnx_ir.AttrTensor("value", onnx_ir.Tensor(made.numpy()))])
                model.graph.insert_before(node, constant)
                node.replace_input_with(node.inputs.index(value), constant.outputs[0])


def _rename(model: onnx_ir.Model, module: Flat) -> None:
    """The weights under their own names; one that is in several places has the first."""
    values = list(model.graph.initializers.values())
    model.graph.initializers.clear()
    for value in values:
        name = module.name_of(str(value.name))
        there = model.graph.initializers.get(name)
        if there is not None:
            value.replace_all_uses_with(there)
            continue
        value.name = name
        if value.const_value is not None:
            value.const_value.name = name
        model.graph.initializers.add(value)


def _finish(
    model: onnx_ir.Model, file: str, dynamic: Mapping[tuple[str, int], str], arguments: Sequence[Argument], keys: set[str]
) -> onnx_ir.Model:
    """Makes the exporter's graph one of ours: symbolic batch, sources, constants; keys of the state_dict stay as they are."""
    import onnx_ir as ir

    from converters.graph.builder import IR_VERSION
    from converters.readers.onnx.reader import from_model

    rename: dict[str, str] = {}
    for value in model.graph.inputs:
        first = value.shape[0] if value.shape else None
        if isinstance(first, ir.SymbolicDim) and first.value is not None:
            is_shared = len({argument.shape[0] for argument in arguments if argument.shape}) == 1
            rename[first.value] = "N" if not rename or is_shared else f"N_{len(rename)}"
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
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:  # a scan's body brings all constants of its function
                held = attribute.as_graph().initializers
                for name in [name for name, value in held.items() if not value.uses() and not value.is_graph_output()]:
                    held.pop(name)
    model = from_model(model, file, frozenset(keys))
    _keep_infinities(model)
    model.ir_version = IR_VERSION
    return model


def _keep_infinities(model: onnx_ir.Model) -> None:
    """Clip with one bound becomes Max or Min: for the other bound onnxruntime takes the largest finite number, and infinities go."""
    import onnx_ir as ir

    for node in list(model.graph.all_nodes()):
        bounds = [(name, value) for name, value in zip(("Max", "Min"), node.inputs[1:], strict=False) if value is not None]
        kind = node.inputs[0].dtype if node.op_type == "Clip" and node.inputs[0] is not None else None
        if node.op_type != "Clip" or len(bounds) != 1 or kind is None or not kind.is_floating_point() or node.graph is None:
            continue
        other = ir.Node("", bounds[0][0], [node.inputs[0], bounds[0][1]], num_outputs=1, name=node.name, version=node.version)
        other.metadata_props.update(node.metadata_props)
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], [other], node.outputs, other.outputs)


def _rename_dims(value: Any, rename: Mapping[str, str]) -> None:
    import onnx_ir as ir

    if value.shape is None:
        return
    value.shape = ir.Shape([d if isinstance(d, int) else (None if d.value is None else rename.get(d.value, d.value)) for d in value.shape])


def _name_outputs(model: onnx_ir.Model, names: Sequence[str]) -> None:
    """Gives the outputs these names, where there are any."""
    taken = {str(v.name): v for node in model.graph for v in node.outputs}
    taken.update((str(v.name), v) for v in [*model.graph.inputs, *model.graph.initializers.values()])
    _give_each_a_value(model, names)
    for value, name in zip(model.graph.outputs, names, strict=False):
        other = taken.get(name)
        if not name or other is value or (other is not None and (other.is_graph_input() or other.is_initializer())):
            continue
        if other is not None:
            other.name = next(free for n in range(len(taken) + 1) if (free := f"{name}_{n}") not in taken)
        if not value.is_graph_input() and not value.is_initializer():
            value.name = name
            taken[name] = value


def _give_each_a_value(model: onnx_ir.Model, names: Sequence[str]) -> None:
    """An input that goes out, or a value that goes out twice, is handed on under the other name."""
    import onnx_ir as ir

    seen: set[int] = set()
    for number, (value, name) in enumerate(zip(list(model.graph.outputs), names, strict=False)):
        if name and name != value.name and (value.is_graph_input() or value.is_initializer() or id(value) in seen):
            node = ir.Node("", "Identity", [value], num_outputs=1, name=f"output_{number}")
            node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = f"output_{number}_of_{value.name}", value.type, value.shape
            model.graph.append(node)
            model.graph.outputs[number] = node.outputs[0]
        seen.add(id(value))
