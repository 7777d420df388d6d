"""Image files to arrays, by the rules of the program that the original read them with.

Pillow decodes; what differs between programs is what they make of orientation tags, alpha, palettes, 16 bits and CMYK.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters import packages
from converters.errors import ConversionError, FormatError
from converters.files import StrPath

if TYPE_CHECKING:
    from PIL import Image

DECODERS = ("opencv", "opencv, EXIF ignored", "pil", "scikit-image", "torch")
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def open_image(path: StrPath) -> Image.Image:
    """The file as Pillow has it, its pixels loaded. Raises FormatError for what is no image, or broken."""
    packages.check("PIL")
    from PIL import Image

    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as problem:
        raise ConversionError("no such file", path=os.fspath(path)) from problem
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error, Image.DecompressionBombError) as problem:
        raise FormatError(f"is no image that can be read ({problem})", path=os.fspath(path)) from problem
    return image


def read_opencv(path: StrPath, *, turn: bool = True) -> NDArray[np.uint8]:
    """cv2.imread in color: (H, W, 3) bytes, here in the order R, G, B. Alpha is dropped, 16 bits keep the high byte.

    turn: by the EXIF orientation, as OpenCV does since 3.1 (MXNet's imread doesn't).
    """
    from PIL import ImageOps

    image = open_image(path)
    if turn:
        image = ImageOps.exif_transpose(image) or image
    if image.mode in _SIXTEEN_BITS:
        gray = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode == "CMYK":
        stored = 255 - np.asarray(image).astype(np.int64)  # Adobe's files hold the inverse, and Pillow turns it back
        color, key = stored[:, :, :3], stored[:, :, 3:]
        return (key - ((255 - color) * key >> 8)).astype(np.uint8)
    if image.mode in ("LA", "La", "1"):
        image = image.convert("L")
    return np.asarray(image.convert("RGB"))


def read_torch(path: StrPath) -> NDArray[np.float32]:
    """image.load(path, 3) of Lua Torch: (H, W, 3) float32 from 0 to 1, R, G, B. Alpha is dropped, orientation ignored.

    Raises ConversionError for gray with alpha, where the original stops, and for CMYK, whose samples it takes for colors.
    """
    image = open_image(path)
    if image.mode in ("LA", "La"):
        raise ConversionError("gray with alpha: Torch's loader refuses it (wrong number of channels)", path=os.fspath(path))
    if image.mode == "CMYK":
        raise ConversionError("CMYK: Torch's loader takes cyan, magenta, yellow for red, green, blue", path=os.fspath(path))
    if image.mode in _SIXTEEN_BITS:
        gray = np.asarray(image).astype(np.float32) / np.float32(65535)
        return np.repeat(gray[:, :, None], 3, axis=2)
    deep = _deep_png(path) if image.format == "PNG" and image.mode in ("RGB", "RGBA") else None
    if deep is not None:
        return deep[:, :, :3].astype(np.float32) / np.float32(65535)
    plain = image.convert("L") if image.mode == "1" else image
    return np.asarray(plain.convert("RGB")).astype(np.float32) / np.float32(255)


def read_scikit(path: StrPath) -> NDArray[np.float64]:
    """skimage.io.imread as float64 from 0 to 1, (H, W, 3). Raises ConversionError for files that aren't RGB: the original fails on them."""
    image = open_image(path)
    if image.mode != "RGB":
        raise ConversionError(f"is of the mode {image.mode}; the original takes RGB files alone", path=os.fspath(path))
    return np.asarray(image).astype(np.float64) / 255


def read_pillow(path: StrPath) -> Image.Image:
    """Image.open, in the file's own mode, orientation ignored. Raises ConversionError for 16-bit gray: versions of Pillow differ."""
    image = open_image(path)
    if image.mode in _SIXTEEN_BITS:
        raise ConversionError("16-bit gray: Pillow's answer changed between versions", path=os.fspath(path), hint="save it with 8 bits")
    return image


_CHANNELS = {2: 3, 6: 4}


def _deep_png(path: StrPath) -> NDArray[np.uint16] | None:
    """(H, W, C) of a PNG of 16 bits per channel, of which Pillow keeps the high bytes; None for another. Source: the PNG specification."""
    with open(path, "rb") as file:
        data = file.read()
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 16 or color not in _CHANNELS:
        return None
    if interlaced:
        raise ConversionError("an interlaced PNG of 16 bits can't be read", path=os.fspath(path), hint="save it without interlacing")
    packed, at = bytearray(), 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    step = _CHANNELS[color] * 2
    stride = width * step
    raw = zlib.decompressobj().decompress(bytes(packed), (stride + 1) * height)
    rows = np.zeros((height, stride), np.uint8)
    above = bytearray(stride)
    for y in range(height):
        line = bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        _unfilter(raw[y * (stride + 1)], line, above, step)
        rows[y] = np.frombuffer(bytes(line), np.uint8)
        above = line
    return rows.view(">u2").reshape(height, width, _CHANNELS[color]).astype(np.uint16)


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    """Adds a PNG row's prediction, in place: 1 left, 2 up, 3 their mean, 4 Paeth."""
    for i in range(len(line)):
        left = line[i - step] if i >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        elif kind == 4:
            corner = above[i - step] if i >= step else 0
            whole = left + above[i] - corner
            guess = min((left, above[i], corner), key=lambda part: abs(whole - part))
        else:
            return
        line[i] = (line[i] + guess) & 255


def to_lab(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """CIE L*a*b* of sRGB bytes or numbers from 0 to 1 (H, W, 3): D65, 2 degrees. L from 0 to 100. Source: IEC 61966-2-1, CIE 15."""
    values = rgb.astype(np.float64) / 255 if rgb.dtype == np.uint8 else rgb.astype(np.float64)
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
