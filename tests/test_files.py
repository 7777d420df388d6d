"""Files are mapped, outputs are whole or absent, and nothing that exists is lost."""

from __future__ import annotations

import pytest

from converters.errors import ConversionError, FormatError, OutputExistsError
from converters.files import map_file, writing


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "empty.t7").touch()
    with pytest.raises(FormatError, match=r"empty\.t7: the file is empty"):
        map_file(tmp_path / "empty.t7")


@pytest.mark.parametrize("name", ["absent", "."])
def test_what_cannot_be_read_is_a_conversion_error(tmp_path, name):
    with pytest.raises(ConversionError, match="can't be read"):
        map_file(tmp_path / name)


def test_a_failing_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), writing(tmp_path / "out") as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_exists_stays_unless_forced(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"), writing(target):
        pass
    assert target.read_bytes() == b"old"
    with writing(target, force=True) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]


def test_a_target_that_appears_meanwhile_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(OutputExistsError), writing(target) as file:
        file.write(b"mine")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs" and list(tmp_path.iterdir()) == [target]


def test_a_forced_target_may_be_the_source(tmp_path):
    source = tmp_path / "both"
    source.write_bytes(b"x" * 10000)
    view = map_file(source)
    with writing(source, force=True) as file:
        file.write(view[:5000])
    assert source.read_bytes() == b"x" * 5000 and bytes(view) == b"x" * 10000
