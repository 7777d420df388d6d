"""Files with a few bytes changed, cut or repeated: each is converted or refused with a ConversionError, never anything else.

CONVERTERS_FUZZ=20 tries twenty times as many.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import converters
from tests import fuzz, work
from tests.conformance import FILES, cases

ROUNDS = int(os.environ.get("CONVERTERS_FUZZ", "1"))
NUMBERS = [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]
WORDS = [b"", b"{", b"}", b'"', b"-1", b"0", b"99999999999999999999", b"nan", b"\xff\xfe", b"\n", b"layer {", b"(", b"null", b"\0"]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to three changes of the kinds that break readers."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        if not changed:
            break
        # Structure sits at the beginning and in small numbers; half of the changes aim there.
        at = dice.randrange(min(len(changed), 400) if dice.random() < 0.5 else len(changed))
        kind = dice.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            size = dice.choice("BHIQ")
            packed = struct.pack("<" + size, dice.choice(NUMBERS) & (256 ** struct.calcsize(size) - 1))
            changed[at : at + len(packed)] = packed
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + dice.randint(1, 40)]
        elif kind == 4:
            changed[at:at] = changed[at : at + dice.randint(1, 200)]
        else:
            word = dice.choice(WORDS)
            changed[at : at + dice.randint(0, len(word) + 1)] = word
    return bytes(changed)


@pytest.mark.parametrize("framework", FILES)
def test_a_mutated_file_is_converted_or_refused(framework, tmp_path):
    dice = random.Random(framework)
    chosen = [case for case in cases(framework) if len(b"".join(map(case.read, case.files))) < 300_000]
    answers = {"converted": 0, "refused": 0}
    for round_ in range(150 * ROUNDS):
        case = dice.choice(chosen)
        paths = case.write_model(tmp_path)
        victim = dice.choice(paths)
        victim.write_bytes(mutate(victim.read_bytes(), dice))
        with work.at_most(40, f"round {round_}, {case}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                converters.load(*paths, inputs=case.shapes(), key=case.about.get("model_at") or None)
                answers["converted"] += 1
            except converters.ConversionError as problem:
                assert str(problem) and len(str(problem)) < 20_000
                answers["refused"] += 1
            except Exception as problem:
                keep = tmp_path / "broken"
                keep.write_bytes(victim.read_bytes())
                raise AssertionError(f"round {round_}, {case}: {victim.name} (kept as {keep})") from problem
    assert min(answers.values()) > 10, answers


def changes(data: bytes, step: int) -> Iterator[bytes]:
    """Every byte (or every step-th) flipped, dropped, doubled, and the file cut short before it."""
    for at in range(0, len(data), step):
        before, byte, behind = data[:at], data[at : at + 1], data[at + 1 :]
        yield before + bytes([byte[0] ^ 0xFF]) + behind
        yield before + behind
        yield before + byte + byte + behind
        yield before


def readable(kind: fuzz.Kind, path: Path) -> bytes:
    """The smallest of a kind's files that is read."""
    for data in sorted(kind.seeds(), key=len):
        path.write_bytes(data)
        with contextlib.suppress(converters.ConversionError):
            kind.read(path)
            return data
    raise AssertionError("none of its files is read")


@pytest.mark.filterwarnings("ignore::converters.ConversionWarning")
@pytest.mark.parametrize("name", fuzz.KINDS)
def test_every_byte_may_be_wrong(name, tmp_path):
    """CONVERTERS_FUZZ=1000 changes every byte; without it some thirty of them."""
    kind = fuzz.KINDS[name]()
    path = tmp_path / f"changed{kind.suffix}"
    data = readable(kind, path)
    answers = {"read": 0, "refused": 0}
    for changed in changes(data, max(1, len(data) // (30 * ROUNDS))):
        path.write_bytes(changed)
        with work.at_most(40, name):
            try:
                kind.read(path)
                answers["read"] += 1
            except converters.ConversionError as problem:
                assert str(problem)
                answers["refused"] += 1
    assert answers["refused"]
