"""A prototxt as nested lists of fields, without any schema."""

from __future__ import annotations

import re
from typing import Any

_TOKENS = re.compile(r"#[^\n]*|\s+|(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|([{}:<>\[\],;])|([^\s{}:<>\[\],;#\"']+)")

V1 = {
    "CONVOLUTION3D": "Convolution3D",
    "CONVOLUTION": "Convolution",
    "DECONVOLUTION": "Deconvolution",
    "DECONVOLUTION3D": "Deconvolution3D",
    "POOLING3D": "Pooling3D",
    "VOXEL_SOFTMAX": "VoxelSoftmax",
    "INNER_PRODUCT": "InnerProduct",
    "VIDEO_SEGMENTATION_DATA": "VideoSegmentationData",
    "VIDEO_DATA": "VideoData",
    "LRN": "LRN",
    "RELU": "ReLU",
}


class Message:
    """Fields by name, each with all its values, in order."""

    def __init__(self) -> None:
        self.fields: dict[str, list[Any]] = {}

    def all(self, name: str) -> list[Any]:
        return self.fields.get(name, [])

    def get(self, name: str, default: Any = None) -> Any:
        """A field's last value; of a message that isn't there an empty one."""
        values = self.fields.get(name)
        return values[-1] if values else Message() if name.endswith("_param") and default is None else default

    def __contains__(self, name: str) -> bool:
        return name in self.fields


def _scalar(word: str) -> Any:
    if word[0] in "\"'":
        return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), word[1:-1])
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def parse(text: str) -> Message:
    words = [m[1] or m[2] or m[3] for m in _TOKENS.finditer(text) if m[1] or m[2] or m[3]]
    top = Message()
    stack = [top]
    at = 0
    while at < len(words):
        word = words[at]
        if word in "}>":
            stack.pop()
            at += 1
        elif word in ",;":
            at += 1
        else:
            at += 1
            if words[at] == ":":
                at += 1
            if words[at] in "{<":
                inner = Message()
                stack[-1].fields.setdefault(word, []).append(inner)
                stack.append(inner)
                at += 1
            elif words[at] == "[":
                end = words.index("]", at)
                stack[-1].fields.setdefault(word, []).extend(_scalar(w) for w in words[at + 1 : end] if w != ",")
                at = end + 1
            else:
                stack[-1].fields.setdefault(word, []).append(_scalar(words[at]))
                at += 1
    return top


def kind(layer: Message) -> str:
    """A layer's type; a Python layer's with its module and class."""
    name = str(layer.get("type"))
    if name == "Python":
        p = layer.get("python_param")
        return f"Python:{p.get('module')}.{p.get('layer')}"
    if name in V1:
        return V1[name]
    return name.capitalize() if name.isupper() and name not in ("LRN", "BN", "GRN", "LSTM", "MVN", "ELU") else name


def in_test(layer: Message) -> bool:
    """Whether a layer takes part in phase TEST, without stages."""

    def meets(rule: Message) -> bool:
        return rule.get("phase", "TEST") == "TEST" and not rule.all("stage") and rule.get("min_level", 0) <= 0

    if layer.all("exclude"):
        return not any(map(meets, layer.all("exclude")))
    return not layer.all("include") or any(map(meets, layer.all("include")))
