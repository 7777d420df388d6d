"""What the converted net gives in onnxruntime and in PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import converters
from tests.readers.caffe.whole.net import Net


def answers(folder: Path, text: str, reference: Net, inputs: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Outputs by name, of onnxruntime and of PyTorch, with the weights that the walk through the prototxt drew."""
    files = [folder / "net.prototxt"]
    files[0].write_text(text)
    if reference.weights:
        files.append(folder / "net.caffemodel")
        files[1].write_bytes(reference.caffemodel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", converters.ConversionWarning)
        model = converters.load(*files, inputs={name: a.shape for name, a in inputs.items()})
    names = [str(value.name) for value in model.graph.outputs]
    converters.save(model, folder / "net.onnx", force=True)
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        found = converters.to_module(model)(*(torch.from_numpy(inputs[str(value.name)]) for value in model.graph.inputs))
    arrays = [a.numpy() for a in (found if isinstance(found, tuple) else (found,))]
    return [dict(zip(names, each, strict=True)) for each in (session.run(None, inputs), arrays)]
