"""CRC-32C (Castagnoli), as TensorFlow writes it beside every block and tensor: by google-crc32c where that is installed, else in numpy.

Long data is cut into pieces of one length whose checksums are worked out side by side, and joined as polynomials are: the checksum of
a joined to b is that of a moved by b's length, plus that of b. Source: RFC 3720, appendix B.4; TensorFlow's core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_PIECES = 1 << 11
"""Pieces that are worked out side by side: few enough to stay in a processor's cache."""
_SHORT = 1 << 14
"""Bytes below which the pieces would be too short to be worth it."""

_COPIED = 1 << 20
"""Bytes that are copied at a time for a package that takes no view."""

Words = NDArray[np.uint32]


@cache
def _table(bits: int) -> Words:
    """What a register becomes when its lowest `bits` bits are shifted out, for each value of them."""
    entries = np.arange(1 << bits, dtype=np.uint32)
    for _ in range(bits):
        entries = np.where(entries & 1, entries >> 1 ^ np.uint32(_POLYNOMIAL), entries >> 1)
    return entries


@cache
def _bytewise() -> list[int]:
    return [int(entry) for entry in _table(8)]


def crc32c(data: memoryview) -> int:
    """The CRC-32C of some bytes."""
    if len(data) >= _SHORT and (extend := _by_instructions()) is not None:
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
    register = 0xFFFFFFFF
    done = 0
    if len(data) >= _SHORT:
        length = len(data) // _PIECES & ~1
        if not length:
            length = 2
        pieces = len(data) // length
        done = pieces * length
        register = _move(register, done) ^ _joined(_registers(data[:done], pieces, length), length)
    table = _bytewise()
    for byte in bytes(data[done:]):
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as it is stored: turned and moved, so that checksums of data that holds checksums aren't weak."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _registers(data: memoryview, pieces: int, length: int) -> Words:
    """The register after each piece, begun with 0; two bytes a step."""
    words = np.frombuffer(data, "<u2").reshape(pieces, length // 2)
    table = _table(16).astype(np.intp)  # numpy looks up 20 times as fast by an index of its own type
    result: Words = np.empty(pieces, np.uint32)
    for start in range(0, pieces, _PIECES):
        rows = words[start : start + _PIECES]
        register = np.zeros(len(rows), np.intp)
        for step in range(0, rows.shape[1], 64):  # turned in blocks: a column at a time would fetch each cache line 32 times
            for column in rows[:, step : step + 64].T.astype(np.intp, order="C"):
                np.bitwise_xor(column, register, out=column)
                np.bitwise_and(column, 0xFFFF, out=column)
                np.right_shift(register, 16, out=register)
                np.bitwise_xor(register, table[column], out=register)
        result[start : start + _PIECES] = register
    return result


def _joined(registers: Words, length: int) -> int:
    """The register of all pieces, one behind the other."""
    while len(registers) > 1:
        if len(registers) % 2:  # a piece of nothing but zeros in front changes nothing
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _apply(_powers(length), registers[0::2]) ^ registers[1::2]
        length *= 2
    return int(registers[0])


def _move(register: int, length: int) -> int:
    return int(_apply(_powers(length), np.array([register], np.uint32))[0])


@cache
def _powers(length: int) -> tuple[int, ...]:
    """What each bit of a register becomes behind `length` zero bytes."""
    if length == 0:
        return tuple(1 << bit for bit in range(32))
    if length % 2:
        before = np.array(_powers(length - 1), np.uint32)
        return tuple(int(value) for value in _table(8)[before & np.uint32(0xFF)] ^ before >> np.uint32(8))
    half = _powers(length // 2)
    return tuple(int(value) for value in _apply(half, np.array(half, np.uint32)))


def _apply(columns: tuple[int, ...], registers: Words) -> Words:
    """A linear map of registers, given by what each bit becomes."""
    result = np.zeros_like(registers)
    for bit, column in enumerate(columns):
        result ^= np.where(registers >> np.uint32(bit) & np.uint32(1), np.uint32(column), np.uint32(0))
    return result
