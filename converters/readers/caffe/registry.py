"""The table of layers: which function lowers which type, and what else is known of the type. Its entries are in layers/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from converters.registry import Registry

if TYPE_CHECKING:
    from typing import Concatenate

    import onnx_ir as ir

    from converters.graph.builder import GraphBuilder
    from converters.readers.caffe.layer import Layer

    Lowering = Callable[Concatenate[GraphBuilder, Layer, ...], ir.Value | Sequence[ir.Value]]
    """(g, layer, *bottoms) -> a Value, or a sequence of them, one for each top (more are ignored)."""
else:
    Lowering = Callable


@dataclass(frozen=True)
class LayerFacts:
    """What is known of a type of layer beside how it is computed.

    in_place: Caffe runs it in place rightly (True), refuses to (False), or overwrites what it still reads (None), which is warned of.
    keeps_count: its top has as many numbers as its bottom, where it has but one of each.
    outputs: the message that says how many outputs it has, of a type that can't be without weights.
    view: its top lies in the memory of its bottom (Blob::ShareData), where it has but one of each.
    role: "layer"; "loss", computed where its labels are inputs of the net and left out where a data layer gives them; "training", a loss
    that is always left out; "sink", which consumes and gives nothing; "writer", a sink whose bottoms are outputs all the same.
    tops: with how many tops a loss is computed.
    blobs: what its stored blobs are, in order; "?": only there where the others are all there too; "factor": what the others are to be
    divided by.
    """

    in_place: bool | None = None
    keeps_count: bool = False
    outputs: str = ""
    view: bool = False
    role: Literal["layer", "loss", "training", "sink", "writer"] = "layer"
    tops: int = 1
    blobs: tuple[str, ...] = ("weight", "bias")

    @property
    def is_computed(self) -> bool:
        """Whether the layer's parameters count."""
        return self.role == "layer"

    @property
    def takes_labels(self) -> bool:
        return self.role in ("loss", "training")


lowers: Registry[Lowering, LayerFacts] = Registry("Caffe layer", LayerFacts, "converters.readers.caffe.layers")

REASONS = {
    "FrcnnProposal": "its sizes stand in a configuration file that it reads while it runs, not in the prototxt",
    "BoxOutput": "what it computes isn't established",
    "BoxGroupOutput": "what it computes isn't established",
    "DetectionOutputExtended": "what it computes isn't established",
    "MultiStageMeanfield": "what it computes isn't established",
    "ConvLSTM": "what it computes isn't established",
    "ROIAlignment": "what it computes isn't established",
    "MaskPooling": "what it computes isn't established",
}
"""Why layers of these types, which people meet, aren't known."""
