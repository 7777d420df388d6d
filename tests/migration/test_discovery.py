"""Which files of a tree are models, and which belong together."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.numpy import save

import converters
from converters.errors import ConversionError, FormatError
from converters.migration.options import MigrationOptions, read_shapes
from converters.migration.trees.archives import unpack
from converters.migration.trees.discovery import discover
from converters.migration.trees.models import Found, Listed
from converters.migration.trees.places import Folder, place_at
from tests.conformance import FIXTURES
from tests.readers.caffe.wire import caffemodel

DIGITS = FIXTURES / "digits"


def look(folder: Path, **options) -> tuple[list[Found], dict[str, Listed]]:
    place = Folder(folder)
    asked = MigrationOptions(**options)
    found, listed = discover(place, [entry for entry in place.entries() if asked.chosen(entry.path)], asked, {})
    return found, {one.seen.path: one for one in listed}


INPUT = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8'


def net(outputs: int = 4, *, kernel: int = 3, head: str = INPUT, name: str = "c") -> str:
    return (
        f'name: "n" {head} layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} }} }}"
    )


def weights(outputs: int = 4, *, kernel: int = 3, name: str = "c") -> bytes:
    return caffemodel({name: [np.ones((outputs, 3, kernel, kernel), np.float32), np.zeros(outputs, np.float32)]})


def write(folder: Path, **files: str | bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name.replace("__", ".").replace("DASH", "-")
        path.write_bytes(data.encode() if isinstance(data, str) else data)


DATA = 'layer { name: "data" type: "Data" top: "data" }'


def test_the_digits_are_found_with_what_belongs_to_them():
    found, listed = look(DIGITS)
    assert {model.source: model.paths for model in found} == {
        "caffe/digits.caffemodel": ("caffe/deploy.prototxt", "caffe/digits.caffemodel"),
        "caffe/digits.caffemodel.h5": ("caffe/deploy.prototxt", "caffe/digits.caffemodel.h5"),
        "mxnet/digits-0010.params": ("mxnet/digits-symbol.json", "mxnet/digits-0010.params"),
        "pytorch/digits.pth.tar": ("pytorch/digits.pth.tar",),
        "pytorch/digits_whole.pth": ("pytorch/digits_whole.pth",),
        "pytorch/digits_whole_legacy.pth": ("pytorch/digits_whole_legacy.pth",),
        "tensorflow/digits.ckpt.index": ("tensorflow/digits.ckpt.meta", "tensorflow/digits.ckpt.index"),
        "tensorflow/digits.pb": ("tensorflow/digits.pb",),
        "torch7/digits.t7": ("torch7/digits.t7",),
        "torch7/digits_checkpoint.t7": ("torch7/digits_checkpoint.t7",),
    }
    ckpt = next(model for model in found if model.source.endswith(".index"))
    assert "tensorflow/digits.ckpt.data-00000-of-00001" in [file.path for file in ckpt.files]
    assert "weights alone" in listed["tensorflow/digits_v1.ckpt"].reason
    assert "solver" in listed["caffe/solver.prototxt"].reason
    every = {str(path.relative_to(DIGITS)) for path in DIGITS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert every == {file.path for model in found for file in model.files} | {path for path in listed if "__pycache__" not in path}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a__prototxt": net(), "b__caffemodel": weights()}, "a.prototxt"),  # by what fits
        ({"a__prototxt": net(), "b__prototxt": net(5), "x__caffemodel": weights(5)}, "b.prototxt"),  # by sizes
        ({"a__prototxt": net(kernel=5), "b__prototxt": net(), "x__caffemodel": weights()}, "b.prototxt"),
        ({"a__prototxt": net(name="other"), "b__prototxt": net(), "x__caffemodel": weights()}, "b.prototxt"),  # by layers
        ({"deploy__prototxt": net(), "train_val__prototxt": net(head=DATA), "x__caffemodel": weights()}, "deploy.prototxt"),
        ({"train_val__prototxt": net(head=DATA), "x__caffemodel": weights()}, "train_val.prototxt"),  # better than none
        (
            {"x_deploy__prototxt": net(), "y_deploy__prototxt": net() + " ", "x_iter_100__caffemodel": weights()},
            "x_deploy.prototxt",
        ),  # by name
        ({"x__prototxt": net(), "y__prototxt": net(), "z__caffemodel": weights()}, "x.prototxt"),  # two copies of one
        ({"broken__prototxt": "layer {", "z__caffemodel": weights()}, "broken.prototxt"),  # the row says why
        ({"a__prototxt": net(), "z__caffemodel": weights()[:-5]}, "a.prototxt"),
    ],
)
def test_a_prototxt_for_a_caffemodel(files, expected, tmp_path):
    write(tmp_path, **files)
    found, _ = look(tmp_path)
    assert [model.paths[0] for model in found] == [expected]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"x__prototxt": net(), "y__prototxt": net() + " ", "z__caffemodel": weights()}, "several prototxts fit: x.prototxt"),
        (
            {"a__prototxt": net(5), "z__caffemodel": weights()},
            "a.prototxt doesn't fit: layer 'c' has 5 outputs here, and weights of 4x3x3x3 there",
        ),
        ({"a__prototxt": net(name="d"), "z__caffemodel": weights()}, "it has no weights for layer 'd' (Convolution)"),
        ({"z__caffemodel": weights()}, "weights alone"),
    ],
)
def test_what_cannot_be_told_is_listed(files, reason, tmp_path):
    write(tmp_path, **files)
    found, listed = look(tmp_path)
    assert found == []
    assert reason in listed["z.caffemodel"].reason


def test_one_prototxt_for_several_caffemodels(tmp_path):
    write(tmp_path, a__prototxt=net(), m_iter_1__caffemodel=weights(), m_iter_2__caffemodel=weights())
    found, listed = look(tmp_path)
    assert [model.paths for model in found] == [("a.prototxt", "m_iter_1.caffemodel"), ("a.prototxt", "m_iter_2.caffemodel")]
    assert listed == {}


@pytest.mark.parametrize("where", ["nets", "..", "../nets"])
def test_a_prototxt_in_a_folder_nearby(where, tmp_path):
    write(tmp_path / "zoo" / "w", z__caffemodel=weights())
    write(tmp_path / "zoo" / "w" / where, a__prototxt=net())
    found, _ = look(tmp_path)
    assert [Path(model.paths[0]).name for model in found] == ["a.prototxt"]


def test_a_net_beside_the_weights_that_does_not_fit_is_not_replaced_by_one_from_elsewhere(tmp_path):
    write(tmp_path / "a", net__prototxt=net(5), z__caffemodel=weights())
    write(tmp_path / "b", net__prototxt=net())
    found, listed = look(tmp_path)
    assert found == []
    assert "doesn't fit" in listed["a/z.caffemodel"].reason


def test_epochs(tmp_path):
    shutil.copy(DIGITS / "mxnet/digits-symbol.json", tmp_path / "m-symbol.json")
    for epoch in ("0001", "0002", "0010"):
        shutil.copy(DIGITS / "mxnet/digits-0010.params", tmp_path / f"m-{epoch}.params")
    found, listed = look(tmp_path)
    assert [model.source for model in found] == ["m-0010.params"]
    assert "an older epoch than m-0010.params" in listed["m-0002.params"].reason
    found, _ = look(tmp_path, epochs="all")
    assert [model.paths for model in found] == [("m-symbol.json", f"m-{epoch}.params") for epoch in ("0001", "0002", "0010")]


def test_a_symbol_of_another_name_is_taken_where_its_names_fit(tmp_path):
    shutil.copy(DIGITS / "mxnet/digits-symbol.json", tmp_path / "other-symbol.json")
    (tmp_path / "wrong-symbol.json").write_text('{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[0, 0, 0]]}')
    shutil.copy(DIGITS / "mxnet/digits-0010.params", tmp_path / "m-0010.params")
    found, _ = look(tmp_path)
    assert [model.paths for model in found] == [("other-symbol.json", "m-0010.params")]


def test_weights_alone_are_models_where_weights_are_wanted(tmp_path):
    write(tmp_path, z__caffemodel=weights())
    found, listed = look(tmp_path, to=("weights",))
    assert [(model.source, model.weights_only) for model in found] == [("z.caffemodel", True)]
    assert listed == {}


def test_the_data_beside_an_onnx_model_belongs_to_it(tmp_path):
    import onnx

    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    value = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [value], [tensor])
    model = onnx.helper.make_model(graph)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found, listed = look(tmp_path)
    assert [file.path for file in found[0].files] == ["m.onnx", "m.data"]
    assert listed == {}


def test_a_checkpoint_in_several_files_is_one_model(tmp_path):
    two = {f"part-{number}.safetensors": save({f"w{number}": np.full((2, 3), number, np.float32)}) for number in (1, 2)}
    index = json.dumps({"metadata": {}, "weight_map": {"w1": "part-1.safetensors", "w2": "part-2.safetensors"}})
    folder = tmp_path / "tree" / "hf"
    folder.mkdir(parents=True)
    for name, data in {**two, "model.safetensors.index.json": index.encode()}.items():
        (folder / name).write_bytes(data)
    torch.save({"w": torch.arange(4.0)}, tmp_path / "one.pth")
    with zipfile.ZipFile(tmp_path / "one.pth") as archive:
        archive.extractall(tmp_path / "tree")
    dcp.save({"w": torch.arange(5.0)}, checkpoint_id=tmp_path / "tree" / "dcp", no_dist=True)

    found, listed = look(tmp_path / "tree", to=("weights",))
    assert {one.source: sorted(file.path.rpartition("/")[2] for file in one.files) for one in found} == {
        "hf/model.safetensors.index.json": ["model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors"],
        "one/data.pkl": sorted(path.name for path in (tmp_path / "tree" / "one").rglob("*") if path.is_file()),
        "dcp/.metadata": [".metadata", "__0_0.distcp"],
    }
    assert listed == {}
    report = converters.migrate(tmp_path / "tree", tmp_path / "out", to=("weights",), workers=1)
    assert report.statuses == {"done": 3}
    for path, expected in (
        (
            "hf/model.safetensors.index.json/model_weights.pth",
            {"w1": torch.full((2, 3), 1.0), "w2": torch.full((2, 3), 2.0)},
        ),
        ("one/data.pkl/data_weights.pth", {"w": torch.arange(4.0)}),
        ("dcp/.metadata/metadata_weights.pth", {"w": torch.arange(5.0)}),
    ):
        got = torch.load(tmp_path / "out" / path, weights_only=True)
        assert got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in got)


def test_names_that_claim_a_model_are_broken_ones(tmp_path):
    write(tmp_path, a__t7="<html>404</html>", b__pth="", c__txt="words", d__onnx="version https://git-lfs.github.com/spec/v1\n")
    found, listed = look(tmp_path)
    assert found == []
    assert {path: one.is_broken for path, one in listed.items()} == {"a.t7": True, "b.pth": True, "c.txt": False, "d.onnx": True}
    assert "git lfs pull" in listed["d.onnx"].reason


def test_what_no_file_is_is_listed(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    import os

    os.mkfifo(tmp_path / "pipe.t7")
    found, listed = look(tmp_path)
    assert found == []
    assert sorted(listed) == ["loop", "nowhere", "pipe.t7"]
    assert "pipe" in listed["pipe.t7"].reason


def test_include_and_exclude(tmp_path):
    write(tmp_path / "a", net__prototxt=net(), z__caffemodel=weights())
    write(tmp_path / "b", net__prototxt=net(), z__caffemodel=weights())
    assert [model.source for model in look(tmp_path, include=("a/*",))[0]] == ["a/z.caffemodel"]
    assert [model.source for model in look(tmp_path, exclude=("a/*",))[0]] == ["b/z.caffemodel"]
    assert look(tmp_path, include=("*.t7",)) == ([], {})


# -- archives --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_models_in_archives(form, tmp_path):
    inside = tmp_path / "inside"
    write(inside / "m", net__prototxt=net(), z__caffemodel=weights())
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.make_archive(str(tree / "old"), {"tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}.get(form, form), inside)
    name = f"old.{form}"
    assert "--archives looks inside" in look(tree)[1][name].reason
    found, listed = look(tree, archives=True)
    assert [(model.source, model.paths) for model in found] == [
        (f"{name}/m/z.caffemodel", (f"{name}/m/net.prototxt", f"{name}/m/z.caffemodel"))
    ]
    assert listed[name].reason == "an archive of 1 models and 0 other files"


def test_an_archive_cannot_write_elsewhere(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("../out.t7", "/tmp/out.t7", "ok/in.t7"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"data"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    notes = unpack(str(tmp_path / "a.tar"), "tar", str(tmp_path / "to"))
    assert [str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()] == ["ok/in.t7"]
    assert len(notes) == 3
    assert not (tmp_path / "out.t7").exists()


def test_an_archive_that_grows_beyond_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr("converters.migration.trees.archives.SPARE", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    with pytest.raises(ConversionError, match="grows beyond"):
        unpack(str(tmp_path / "a.zip"), "zip", str(tmp_path / "to"))


def test_a_damaged_archive(tmp_path):
    shutil.make_archive(str(tmp_path / "a"), "gztar", DIGITS / "torch7")
    data = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="the archive is damaged"):
        unpack(str(tmp_path / "a.tar.gz"), "gzip", str(tmp_path / "to"))


# -- options ---------------------------------------------------------------------------------------------------------------


def test_shapes(tmp_path):
    (tmp_path / "s.toml").write_text('"zoo/*.t7" = "1x3x8x8"\n"*" = {data = "1x3x224x224", info = "1x3:int64"}\n')
    options = MigrationOptions(shapes=read_shapes(tmp_path / "s.toml"))
    assert options.inputs_of(["zoo/a.t7"]) == {"": (1, 3, 8, 8)}
    assert options.inputs_of(["b.params"]) == {"data": (1, 3, 224, 224), "info": ((1, 3), "int64")}


@pytest.mark.parametrize(
    ("text", "message"),
    [('"a" = 3', "has no shapes"), ('"a" = "1xy"', "write NAME=1x3x224x224"), ("a b", "is no TOML"), ('"a" = {b = [1]}', "has no shapes")],
)
def test_shapes_that_are_none(text, message, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConversionError, match=message):
        read_shapes(tmp_path / "s.toml")


@pytest.mark.parametrize("options", [{"to": ("tflite",)}, {"to": ()}, {"retry": ("done",)}, {"epochs": "last"}, {"limit_time": 0}])
def test_options_that_cannot_be_meant(options):
    with pytest.raises(ConversionError):
        MigrationOptions(**options).check()


def test_a_store_that_nothing_reaches():
    with pytest.raises(ConversionError, match="can't be reached"):
        place_at("nosuch://bucket/a")
