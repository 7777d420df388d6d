"""The README is true: its table is that of the registries, its first command does what it says, its examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import support_table
from tests.conformance import FIXTURES

ROOT = FIXTURES.parent
README = support_table.README.read_text()


def test_the_support_table_is_fresh():
    assert support_table.renewed(README) == README, "run: python -m tests.support_table"


def test_every_entry_says_what_it_is():
    for heading, registry in support_table.registries().items():
        assert len(registry) > 20, heading
        assert not [name for name in registry if len(registry.summary(name)) < 3], heading


def commands() -> list[list[str]]:
    """The convert commands of the README's shell blocks that run on fixtures."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            command = re.search(r"\S*convert (.*fixtures/.*)", line)
            if command:
                found.append(shlex.split(command[1]))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_commands_run(words, tmp_path):
    words = [str(ROOT / w) if w.startswith("fixtures/") else w for w in words]
    done = subprocess.run([sys.executable, "-m", "converters", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("digits*"))


def test_there_are_two_commands_to_begin_with():
    section = README.split("## Quick start")[1].split("## ")[0]
    setups = re.findall(r"^python3 -m venv .*$", section, re.MULTILINE)
    assert len(setups) == 2 and "--verify" in setups[0] and "pytest" in setups[1]
    assert Path(ROOT / "constraints.txt").exists()
