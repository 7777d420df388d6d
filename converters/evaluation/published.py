"""Published models, told by the shapes of their layers: whose page has a recipe that is worth proposing. None is ever taken unasked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Published:
    """A model as its page names it, and what that page did to its images. labels: the order of its classes, where the recipe's isn't."""

    name: str
    recipe: str
    labels: str = ""

    def __str__(self) -> str:
        order = f", for which evaluate needs --order {self.labels}" if self.labels else ""
        return f"{self.name} (its page used --recipe {self.recipe}{order})"


def signature(model: ir.Model) -> str:
    """A digest of the convolutions and linear layers in order: the shapes of their weights, strides and groups, and what feeds them."""
    found = []
    for node in model.graph:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and weight is not None and weight.const_value is not None:
            strides = list(node.attributes["strides"].as_ints()) if "strides" in node.attributes else [1, 1]
            sizes = sorted(weight.const_value.shape.numpy())
            found.append((node.op_type, sizes, strides, node.attributes.get_int("group", 1), _before(node)))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16] if len(found) > 3 else ""


def _before(node: ir.Node) -> list[str]:
    """The normalizations and activations between a layer and the one before it: a residual net of the second kind has both in front."""
    found: list[str] = []
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    while producer is not None and producer.op_type in ("BatchNormalization", "Relu", "Pad", "Flatten", "Reshape"):
        found += [producer.op_type] if producer.op_type in ("BatchNormalization", "Relu") else []
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
    return [*found, "Add" if producer is not None and producer.op_type == "Add" else ""]


def proposal(model: ir.Model) -> str:
    """What is worth a try for a model of these layers, as half a sentence; empty for one that isn't known."""
    known = PUBLISHED.get(signature(model), ())
    return f"this has the layers of {' and of '.join(map(str, known))}" if known else ""


_V2, _INCEPTION, _RESNEXT, _FB = "caffe-resnet-v2-224", "caffe-inception-299", "caffe-resnext-224", "fb-resnet-224"
_TORCHVISION = "torchvision-224"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "b079ea7833cbc329": (Published("caffe-model's resnet101-v2", _V2),),
    "a3df1248a5b80a80": (Published("caffe-model's resnet152-v2", _V2),),
    "53e6a1f2fd689728": (Published("caffe-model's resnet269-v2", _V2),),
    "3e9f48c6b9060ce9": (Published("the ResNet-152 of MXNet's model gallery", "mxnet-resnet-224"),),
    "a1b73bbcbb28b412": (
        Published("caffe-model's inception-v3", _INCEPTION, "devkit"),
        Published("the Inception-v3 of MXNet's model gallery", "mxnet-inception-v3-299"),
    ),
    "07f42167eb4478c7": (Published("caffe-model's inception-v4", _INCEPTION),),
    "20611be12c746126": (Published("caffe-model's inception-resnet-v2", _INCEPTION),),
    "071528eb098d9b8e": (Published("caffe-model's resnet18", _RESNEXT),),
    "dde8997c4880adaf": (
        Published("caffe-model's resnext50-32x4d", _RESNEXT),
        Published("ResNeXt's resnext_50_32x4d for Torch", _FB),
        Published("torchvision's resnext50_32x4d", _TORCHVISION),
    ),
    "8e02e255186faee0": (
        Published("caffe-model's resnext101-32x4d", _RESNEXT),
        Published("ResNeXt's resnext_101_32x4d for Torch", _FB),
    ),
    "42b385fe553bf3a2": (Published("caffe-model's resnext101-64x4d", _RESNEXT), Published("ResNeXt's resnext_101_64x4d for Torch", _FB)),
    "da86bd4b61bbd534": (
        Published("caffe-model's wrn50-2", _RESNEXT),
        Published("the wide residual network wrn-50-2 for Torch", _FB),
        Published("torchvision's wide_resnet50_2", _TORCHVISION),
    ),
    "f4e71f09ca22f900": (Published("fb.resnet.torch's resnet-18", _FB), Published("torchvision's resnet18", _TORCHVISION)),
    "a2e251ba3f1c0600": (Published("fb.resnet.torch's resnet-34", _FB), Published("torchvision's resnet34", _TORCHVISION)),
    "97cf20cec203ccb5": (Published("fb.resnet.torch's resnet-50", _FB), Published("torchvision's resnet50", _TORCHVISION)),
    "42aaf35d7915d0bd": (Published("fb.resnet.torch's resnet-101", _FB), Published("torchvision's resnet101", _TORCHVISION)),
    "fe506e431b2bf182": (Published("fb.resnet.torch's resnet-20 for CIFAR-10", "fb-cifar10"),),
}
"""By signature: models whose layers are the same, whatever file they come in, are one entry."""
