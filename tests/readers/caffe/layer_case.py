"""A row of a layer table: what the prototxt says, what goes in, and an independent function that says what comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch

import converters
from converters.errors import ConversionWarning
from tests.readers.caffe import wire

torch.set_num_threads(1)


@dataclass
class LayerCase:
    """type and params as in the prototxt; shapes (random inputs) or arrays; blobs as shapes or arrays; expect(*inputs, *blobs).

    extend: axes that may have another length than the net declares are tried at batch 3 as well.
    """

    type: str
    params: str
    shapes: Sequence[Any]
    expect: Callable[..., Any]
    blobs: Sequence[Any] = ()
    tops: int = 1
    name: str = ""
    warns: str = ""
    tolerance: float = 1e-5
    low: float = -2
    high: float = 2
    fixed: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.name or f"{self.type}-{self.params}"[:60]

    def inputs(self, batch: int | None = None) -> list[np.ndarray]:
        rng = np.random.default_rng(1)
        made = []
        for shape in self.shapes:
            if isinstance(shape, np.ndarray):
                made.append(shape.astype(np.float32))
            else:
                made.append(rng.uniform(self.low, self.high, (batch or shape[0], *shape[1:]) if shape else ()).astype(np.float32))
        return made

    def arrays(self) -> list[np.ndarray]:
        rng = np.random.default_rng(2)
        return [b.astype(np.float32) if isinstance(b, np.ndarray) else rng.uniform(-1, 1, b).astype(np.float32) for b in self.blobs]

    def prototxt(self) -> str:
        lines = []
        for i, x in enumerate(self.inputs()):
            dims = " ".join(f"dim: {d}" for d in x.shape)
            lines.append(f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}')
        bottoms = " ".join(f'bottom: "x{i}"' for i in range(len(self.shapes)))
        tops = " ".join(f'top: "y{i}"' for i in range(self.tops))
        lines.append(f'layer {{ name: "it" type: "{self.type}" {bottoms} {tops} {self.params} }}')
        return "\n".join(lines)

    def load(self, folder: Path) -> ir.Model:
        net, weights = folder / "net.prototxt", folder / "net.caffemodel"
        net.write_text(self.prototxt())
        weights.write_bytes(wire.caffemodel({"it": self.arrays()} if self.blobs else {"none": []}))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = converters.load(net, weights)
        notes = [str(w.message) for w in caught if issubclass(w.category, ConversionWarning)]
        if self.fixed:  # the net may close the batch, which it says
            notes = [note for note in notes if "takes inputs of the given first size" not in note]
        assert bool(notes) == bool(self.warns) and all(self.warns in note for note in notes), notes
        return model

    def check(self, folder: Path) -> None:
        """The checker, PyTorch and onnxruntime at the declared batch, and at another where the model leaves it open."""
        model = self.load(folder)
        proto = ir.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        module = converters.to_module(model)
        names = [v.name for v in model.graph.outputs]
        open_batch = not self.fixed and any(
            not isinstance(v.shape[0], int) for v in model.graph.inputs if v.shape is not None and len(v.shape)
        )
        assert open_batch or self.fixed or not self.shapes or not self.inputs()[0].shape, "the batch isn't symbolic"
        for batch in (None, 3) if open_batch and not any(isinstance(s, np.ndarray) for s in self.shapes) else (None,):
            given = self.inputs(batch)
            with np.errstate(all="ignore"):
                wanted = self.expect(*given, *self.arrays())
            wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
            by_onnx = session.run(None, {v.name: x for v, x in zip(model.graph.inputs, given, strict=True)})
            with torch.no_grad():
                by_torch = module(*map(torch.from_numpy, given))
            by_torch = list(by_torch) if isinstance(by_torch, tuple | list) else [by_torch]
            assert sorted(names) == sorted(f"y{i}" for i in range(len(wanted)))
            for name, a, b in zip(names, by_onnx, by_torch, strict=True):
                want = np.asarray(wanted[int(name[1:])], np.float32)
                for what, got in (("onnxruntime", a), ("PyTorch", b.detach().numpy())):
                    assert got.shape == want.shape, f"{what} at batch {batch}: {name} is {got.shape}, not {want.shape}"
                    np.testing.assert_allclose(got, want, rtol=self.tolerance, atol=self.tolerance, err_msg=f"{what} at batch {batch}")
