"""Operators that are known and have no form here: each is refused with its reason. Sources: mxnet src/operator."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.signature import Lowering, lowers

NUMPY = {
    "_npi_delete": "MXNet's symbols don't run it (they answer an empty array)",
    "_npi_unique": "how many different values there are depends on them",
    "_npx_nonzero": "how many elements aren't 0 depends on them",
    "_npi_nonzero": "how many elements aren't 0 depends on them",
    "_npi_bincount": "its length depends on the largest value",
}
QUANTIZED = {
    "_contrib_quantized_conv": "MXNet's CPU answers nonsense for it (an int8 bias that isn't rescaled, a range that is off by two)",
    "_contrib_quantized_batch_norm": "its rounding is oneDNN's",
    "_contrib_quantized_rnn": "its rounding is oneDNN's",
    "_contrib_quantize_asym": "its rounding is oneDNN's",
    "_sg_mkldnn_selfatt_qk": "it was quantized with the layers around it, and its rounding is oneDNN's",
    "_sg_mkldnn_selfatt_valatt": "it was quantized with the layers around it, and its rounding is oneDNN's",
}


def _refuse(reasons: Mapping[str, str], way_out: str, sources: str) -> None:
    for name, reason in reasons.items():
        lowers(name)(_refusal(reason, way_out, sources))


def _refusal(reason: str, way_out: str, sources: str) -> Lowering:
    def refused(g: OperatorBuilder, *data: ir.Value, **attributes: str) -> ir.Value:
        raise g.error(f"{reason}; {way_out}")

    refused.__doc__ = f"Refused: {reason}. Source: mxnet {sources}."
    return refused


_refuse(NUMPY, "end the net before it with --output", "src/operator/numpy")
_refuse(QUANTIZED, "convert the float symbol that it was made from", "src/operator/quantization, src/operator/subgraph/mkldnn")
