"""CRC-32C (Castagnoli), as TensorFlow writes it beside every block and tensor: by google-crc32c where that is installed, else in numpy.

Bytes are a polynomial over GF(2), and their checksum its remainder by the CRC's own. By a multiple of that one they leave the same
checksum; one of four terms whose powers are whole bytes divides by nothing but shifts and exclusive ors, and x^a + x^b + x^c + 1 to the
power of 2^n is x^(a 2^n) + x^(b 2^n) + x^(c 2^n) + 1. Source: RFC 3720, appendix B.4; TensorFlow's core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
"""Its terms below x^32, that of x^31 in the lowest bit."""
TERMS = (5685, 1362, 426)
"""a, b and c: x^a + x^b + x^c + 1 is a multiple of the polynomial."""
_UNITS = (8, 1)
"""Bytes that one power of x stands for: in the 64th power of that multiple, then in its 8th."""
_PREFIX = b"\x54\x64\x1f\x64"
"""Bytes in front of the data that take the register from 0 to ones, where CRC-32C begins."""
_STEPS = 2
"""Steps of a division whose quotient is kept, beside what is needed of it: few enough to stay in a processor's cache."""

_SHORT = 1 << 8
"""Bytes that are summed one by one."""
_COPIED = 1 << 20
"""Bytes that are copied at a time for a package that takes no view."""

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]


def crc32c(data: memoryview) -> int:
    """The CRC-32C of some bytes."""
    if len(data) > _SHORT and (extend := _by_instructions()) is not None:
        checksum = 0
        for start in range(0, len(data), _COPIED):
            checksum = extend(checksum, bytes(data[start : start + _COPIED]))
        return checksum
    return by_numpy(data)


@cache
def _by_instructions() -> Callable[[int, bytes], int] | None:
    """The function of google-crc32c (extra `fast`), where it isn't that package's own Python."""
    try:
        package = importlib.import_module("google_crc32c")
    except ImportError:
        return None
    extend: Callable[[int, bytes], int] = package.extend
    return extend if package.implementation == "c" else None


def by_numpy(data: memoryview) -> int:
    """As `crc32c`, with numpy alone."""
    rest, prefix = np.frombuffer(data, np.uint8), _PREFIX
    for unit in _UNITS:
        if len(rest) > 2 * TERMS[0] * unit:
            rest, prefix = _remainder(rest, unit, prefix), b""
    return _register(prefix + rest.tobytes()) ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as it is stored: turned and moved, so that checksums of data that holds checksums aren't weak."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(data: Bytes, unit: int, prefix: bytes) -> Bytes:
    """As many bytes as the divisor is long, of the same checksum as the prefix and the data, which are longer."""
    near, middle, far = ((TERMS[0] - power) * unit for power in (*TERMS[1:], 0))
    quotient = np.zeros(far + _STEPS * near, np.uint8)
    quotient[far - len(prefix) : far] = np.frombuffer(prefix, np.uint8)
    at, end = far, len(data) - far
    for start in range(0, end, near):
        if at + near > len(quotient):
            quotient[:far] = quotient[at - far : at]
            at = far
        size = min(near, end - start)
        step = quotient[at : at + size]
        np.bitwise_xor(data[start : start + size], quotient[at - near : at - near + size], out=step)
        np.bitwise_xor(step, quotient[at - middle : at - middle + size], out=step)
        np.bitwise_xor(step, quotient[at - far : at - far + size], out=step)
        at += size
    rest = data[end:].copy()
    for distance in (near, middle, far):
        rest[:distance] ^= quotient[at - distance : at]
    return rest


def _register(data: bytes) -> int:
    """The register behind some bytes, begun with 0: the first half is moved onto the second until few are left."""
    if len(data) > _SHORT:
        words: Words = np.zeros(1 << ((len(data) - 1) // 4).bit_length(), "<u4")
        words.view(np.uint8)[-len(data) :] = np.frombuffer(data, np.uint8)  # zeros in front change nothing
        while len(words) > 32:
            half = len(words) // 2
            words = _moved(words[:half], 4 * half) ^ words[half:]
        data = words.astype("<u4").tobytes()
    register, table = 0, _bytewise()
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register


@cache
def _bytewise() -> tuple[int, ...]:
    """What a register becomes when its lowest byte is shifted out, for each value of it."""
    entries = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        entries = np.where(entries & 1, entries >> 1 ^ np.uint32(POLYNOMIAL), entries >> 1)
    return tuple(entries.tolist())


def _moved(registers: Words, length: int) -> Words:
    """What registers become behind `length` zero bytes, a power of two."""
    tables = _shifts(length)
    result: Words = tables[3][registers >> np.uint32(24)]
    for place in range(3):
        result ^= tables[place][registers >> np.uint32(8 * place) & np.uint32(0xFF)]
    return result


@cache
def _shifts(length: int) -> Words:
    """What each byte of a register becomes, by its place, behind `length` zero bytes: (4, 256)."""
    table = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    if length > 1:
        return _moved(_moved(table, length // 2), length // 2)
    shifted: Words = np.array(_bytewise(), np.uint32)[table & np.uint32(0xFF)] ^ table >> np.uint32(8)
    return shifted
