"""README and docs are true: every block runs, generated tables are fresh, the two set-up commands are there, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import documentation, support_table
from tests.documentation import PAGES, ROOT
from tests.test_architecture import FLOOR_OF

README = ROOT / "README.md"
ROOMS = {room.split(".")[0] or "__init__": floor for room, floor in FLOOR_OF.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page, tmp_path):
    assert {block.language for block in documentation.blocks(page)} <= set(documentation.LANGUAGES), "a block that nothing runs"
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("convert", "converters"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m converters "$@"\n')
        (programs / name).chmod(0o755)
    settings = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-m", "tests.documentation", str(page.relative_to(ROOT))]
    done = subprocess.run(run, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", support_table.GENERATED, ids=lambda page: page.name)
def test_generated_tables_are_fresh(page):
    assert page.read_text() == support_table.renewed(page), "run: python -m tests.support_table"


def test_every_entry_says_what_it_is():
    for heading, registry in support_table.registries().items():
        assert len(registry) > 20, heading
        assert not [name for name in registry if len(registry.summary(name)) < 3], heading


def test_the_readme_is_one_screen_with_two_commands_to_begin_with():
    text = README.read_text()
    assert len(text.encode()) < 6000
    section = text.split("## Quick start")[1].split("## ")[0]
    setups = re.findall(r"^python3 -m venv .*$", section, re.MULTILINE)
    assert len(setups) == 2 and "--verify" in setups[0] and "pytest" in setups[1]
    assert "fixtures/digits/" in setups[0] and (ROOT / "constraints.txt").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_fenced_so_that_it_is_run(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"(?<=\n\n) {4}\S.*", prose)


def test_the_contents_list_every_page():
    contents = re.findall(r"```{toctree}(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    listed = re.findall(r"^[a-z_]+$", "".join(contents), re.MULTILINE)
    assert sorted([*listed, "index"]) == sorted(Path(page).stem for page in (ROOT / "docs").glob("*.md"))


def test_the_page_on_architecture_has_every_room_on_its_floor():
    table = (ROOT / "docs/architecture.md").read_text().split("| floor | rooms |")[1].split("\n\n")[0]
    rows = [set(re.findall(r"`(\w+)`", row)) & ROOMS.keys() for row in table.splitlines()]
    there = {path.stem for path in (ROOT / "converters").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set().union(*rows) == (there & ROOMS.keys()) | {"schemas"}
    for number, row in enumerate(rows):
        for room in row:
            assert all(ROOMS[room] >= ROOMS[below] for lower in rows[number + 1 :] for below in lower), room
