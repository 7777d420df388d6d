"""Files are mapped, outputs are whole or absent, and nothing that exists is lost."""

from __future__ import annotations

import os
import sys
import zlib

import pytest

from converters import files
from converters.errors import ConversionError, FormatError, OutputExistsError
from converters.files import InputFile, check_target, map_file, together, writing


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


# -- what a user's files are ---------------------------------------------------------------------------------------------


def write(path, data: bytes = b"new", *, force: bool = False) -> None:
    with writing(path, force=force) as file:
        file.write(data)


@pytest.fixture(params=["unnamed", "named", "without /proc"])
def kind_of_temporary(request, monkeypatch):
    """The ways of writing: files without a name, and under a temporary one where the system has no such files, or can't name them later."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param == "without /proc":
        is_folder, link = os.path.isdir, os.link
        monkeypatch.setattr(os.path, "isdir", lambda path: not str(path).startswith("/proc/") and is_folder(path))
        monkeypatch.setattr(os, "link", lambda source, *rest, **how: link(str(source).replace("/proc/", "/nowhere/"), *rest, **how))
    return request.param


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_force_keeps_the_mode(mode, kind_of_temporary, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(mode)
    write(target, force=True)
    assert target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == mode and list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_user_s_mask(kind_of_temporary, tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_force_follows_a_link(kind_of_temporary, tmp_path):
    (tmp_path / "store").mkdir()
    goal, link = tmp_path / "store" / "real", tmp_path / "out"
    goal.write_bytes(b"old")
    link.symlink_to(goal)
    with pytest.raises(OutputExistsError):
        write(link)
    write(link, force=True)
    assert link.is_symlink() and goal.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "real", "store"]


def test_a_source_is_never_a_target(tmp_path):
    source, other = tmp_path / "a.pth", tmp_path / "b.pth"
    source.write_bytes(b"precious")
    other.symlink_to(source)
    os.link(source, tmp_path / "c.pth")
    for target in (source, other, tmp_path / "c.pth"):
        with pytest.raises(OutputExistsError, match="is the source itself"):
            check_target(target, force=True, sources=[source])
    assert check_target(tmp_path / "d.pth", sources=[source]) == tmp_path / "d.pth"


def test_a_pipe_or_a_device_is_no_target(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OutputExistsError, match="a pipe or a device"):
            write(target, force=True)


@pytest.mark.parametrize("name", ["n" * 255, "\U0001f600" * 63])
def test_names_of_255_bytes(name, kind_of_temporary, tmp_path):
    for force in (False, True):
        write(tmp_path / name, force=force)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_is_said(tmp_path):
    with pytest.raises(ConversionError, match="File name too long"):
        write(tmp_path / ("n" * 256))


def test_files_of_one_writing_appear_together(kind_of_temporary, tmp_path):
    with together():
        write(tmp_path / "a")
        write(tmp_path / "b")
        assert not [path for path in tmp_path.iterdir() if path.suffix != ".part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_where_one_fails_none_appears(kind_of_temporary, tmp_path):
    with pytest.raises(RuntimeError), together():
        write(tmp_path / "a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputExistsError), together():
        write(tmp_path / "a")
        write(tmp_path / "b")
        (tmp_path / "b").write_bytes(b"theirs")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"theirs")]


def test_an_input_file_is_a_path_that_is_mapped_once(tmp_path):
    (tmp_path / "in").write_bytes(b"data")
    file = InputFile(tmp_path / "in")
    assert os.fspath(file) == str(tmp_path / "in") and map_file(file) is file.view and InputFile(file).view is file.view


@pytest.mark.parametrize("package", ["isal", "absent"])
def test_checksums_of_long_data_go_on_from_others(package, monkeypatch):
    files._crc32.cache_clear()
    if package == "absent":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    else:
        pytest.importorskip("isal")
    data = memoryview(bytes(range(256)) * 2000)
    assert files.crc32(data) == zlib.crc32(data)
    assert files.crc32(data[1000:], files.crc32(data[:1000])) == zlib.crc32(data)
    assert (files._crc32() is zlib.crc32) == (package == "absent")
    files._crc32.cache_clear()


@pytest.mark.parametrize("left", [4096, 3 * 65536 - 10], ids=["pages are gone", "the end of the last page reads as zeros"])
def test_a_source_that_is_cut_short_while_it_is_copied_is_named(left, kind_of_temporary, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(b"\1" * 3 * 65536)
    view = map_file(source)
    with pytest.raises(FormatError, match=r"source\.bin: was cut short"), writing(tmp_path / "out") as file:
        os.truncate(source, left)
        file.write(view)
    assert list(tmp_path.iterdir()) == [source]
    cycle = [view]
    cycle.append(cycle)
    del view, cycle
    with writing(tmp_path / "out") as file:  # what nobody looks at any more may be as short as it likes
        file.write(b"whole")
    assert (tmp_path / "out").read_bytes() == b"whole"
