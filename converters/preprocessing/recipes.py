"""The published recipes by name. Sources: the models' own programs and pages, named beside each family.

Where prose and program of a page differ, the program's numbers stand here.
"""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]

IMAGENET: Fields = {"range": 1, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and deviation of ImageNet's training images, from 0 to 1, R, G, B (fb.resnet.torch, torchvision)."""
LINEAR, BILINEAR, LANCZOS = "opencv linear", "pil bilinear (antialiased)", "pil lanczos"


def _caffe(base: int, crop: int, mean: list[float], std: list[float], *, twelve: bool = False) -> Fields:
    """The Caffe models evaluated by caffe-model's evaluation_cls.py: OpenCV, B, G, R from 0 to 255; 12 crops squash the image first."""
    return {
        "decode": "opencv",
        "color": "BGR",
        "resize": "short side, then squash to base x base" if twelve else "short side",
        "resize_to": base,
        "interpolation": LINEAR,
        "size_rounding": "floor",
        "crop": crop,
        "crop_offset": "floor",
        "crops": 12 if twelve else 1,
        "range": 255,
        "mean": mean,
        "std": std,
        "average": "probabilities",
        "labels": "sorted",
    }


def _torch(base: int, crops: int = 1) -> Fields:
    """fb.resnet.torch, datasets/transforms.lua and imagenet.lua: crops of base - 32 for the base of 256, else of the base."""
    return {
        "decode": "torch",
        "color": "RGB",
        "resize": "short side",
        "resize_to": base,
        "interpolation": "torch bicubic (corners aligned, a=-0.5, no antialiasing)",
        "size_rounding": "truncate",
        "crop": 224 if base == 256 else base,
        "crop_offset": "ceil",
        "crops": crops,
        **IMAGENET,
        "average": "logits",
        "labels": "sorted",
    }


def _torchvision(base: int, crop: int, *, decode: str = "pil", ten: bool = False) -> Fields:
    """torchvision's references/classification/presets.py; the InceptionV4 page reads with OpenCV and resizes with Pillow."""
    return {
        "decode": decode,
        "color": "RGB",
        "resize": "short side",
        "resize_to": base,
        "interpolation": BILINEAR,
        "size_rounding": "truncate long side",
        "crop": crop,
        "crop_offset": "round half to even; order TL TR BL BR centre, then mirrored" if ten else "round half to even",
        "crops": 10 if ten else 1,
        **IMAGENET,
        "average": "logits" if ten else None,
        "labels": "sorted",
    }


def _squash(decode: str, color: str, resize: str, size: int, interpolation: str, scale: Fields, labels: str) -> Fields:
    """The whole image made a square, without a crop."""
    fields = {"decode": decode, "color": color, "resize": resize, "resize_to": size, "interpolation": interpolation, **scale}
    return {**fields, "average": None, "labels": labels}


def _half(channels: int) -> Fields:
    """From -1 to 1."""
    return {"range": 1, "mean": [0.5] * channels, "std": [0.5] * channels}


def _small(decode: str, scale: Fields, average: str | None = None) -> Fields:
    """CIFAR's images as they are."""
    return {"decode": decode, "color": "RGB", "resize": "none", **scale, "average": average, "labels": "cifar"}


_RESNET_V2 = ([102.9801, 115.9465, 122.7717], [1.0, 1.0, 1.0])
_INCEPTION = ([128.0, 128.0, 128.0], [128.0, 128.0, 128.0])
_RESNEXT = ([103.52, 116.28, 123.675], [57.375, 57.12, 58.395])
_LAB: Fields = {"range": "L 0-100, a and b unscaled", "mean": [50.0, 0.0, 0.0], "std": [50.0, 110.0, 110.0]}
_SQUARE = "centre square of the short side, then squash"
_SKIMAGE = "linear, half-pixel centres, zeros outside then clipped to the square's own range, no antialiasing"

RECIPES: dict[str, Fields] = {
    "caffe-resnet-v2-224": _caffe(256, 224, *_RESNET_V2),
    "caffe-resnet-v2-224-12crop": _caffe(256, 224, *_RESNET_V2, twelve=True),
    "caffe-resnet-v2-320": _caffe(320, 320, *_RESNET_V2),
    "caffe-inception-299": _caffe(320, 299, *_INCEPTION),
    "caffe-inception-299-12crop": _caffe(320, 299, *_INCEPTION, twelve=True),
    "caffe-inception-395": _caffe(395, 395, *_INCEPTION),
    "caffe-resnext-224": _caffe(256, 224, *_RESNEXT),
    "caffe-resnext-224-12crop": _caffe(256, 224, *_RESNEXT, twelve=True),
    "caffe-resnext-320": _caffe(320, 320, *_RESNEXT),
    "caffe-resnext-320-12crop": _caffe(320, 320, *_RESNEXT, twelve=True),
    "fb-resnet-224": _torch(256),
    "fb-resnet-224-10crop": _torch(256, 10),
    "fb-resnet-320": _torch(320),
    "fb-cifar10": _small("torch", {"range": 255, "mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}, "logits"),
    "torchvision-224": _torchvision(256, 224),
    "torchvision-224-10crop": _torchvision(256, 224, ten=True),
    "torchvision-299": _torchvision(342, 299),
    "inception-v4-pytorch-test": _torchvision(342, 299, decode="opencv"),
    "inception-v4-pytorch-inference": _squash("opencv", "RGB", "squash", 299, BILINEAR, IMAGENET, "sorted"),
    # chenyaofo's CIFAR-pretrained-models
    "cifar10": _small("pil", {"range": 1, "mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}),
    "cifar100": _small("pil", {"range": 1, "mean": [0.5071, 0.4865, 0.4409], "std": [0.2009, 0.1984, 0.2023]}),
    # the VGG-16 and ResNet models for gray and Lab images
    "lab-vgg16-224": _squash("pil", "Lab", "squash, in the file's own mode, then RGB", 224, LANCZOS, _LAB, "devkit"),
    "gray-vgg16-224": _squash("pil", "gray", "squash, in the file's own mode, then gray", 224, LANCZOS, _half(1), "devkit"),
    "gray-vgg16-224-train": _squash("pil", "gray", "gray, then squash", 224, LANCZOS, _half(1), "devkit"),
    "rgb-half-224": _squash("pil", "RGB", "RGB, then squash", 224, LANCZOS, _half(3), "devkit"),
    # MXNet's model gallery; the Inception notebooks multiply by 256, not by 255
    "mxnet-inception-v3-299": _squash(
        "scikit-image", "RGB", _SQUARE, 299, _SKIMAGE, {"range": 256, "mean": [128.0] * 3, "std": [128.0] * 3}, "devkit"
    ),
    "mxnet-inception-21k-224": _squash(
        "scikit-image", "RGB", _SQUARE, 224, _SKIMAGE, {"range": 256, "mean": [117.0] * 3, "std": [1.0] * 3}, "21k"
    ),
    "mxnet-resnet-224": _squash(
        "opencv, EXIF ignored", "RGB", "squash", 224, LINEAR, {"range": 255, "mean": [0.0] * 3, "std": [1.0] * 3}, "sorted"
    ),
}
