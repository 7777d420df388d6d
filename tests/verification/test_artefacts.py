"""verify of any two artefacts, of finished files before they have their names, and against the original's own answers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.numpy import save_file

import converters
from converters import cli
from converters.cli import main
from converters.errors import ConversionError
from converters.verification import search
from converters.verification.artefacts import artefacts_of
from converters.verification.trials import by_names, inputs_to_try

DIGITS = Path(__file__).parents[2] / "fixtures" / "digits"
CAFFE = [str(DIGITS / "caffe" / name) for name in ("deploy.prototxt", "digits.caffemodel")]
LUA = str(DIGITS / "torch7" / "digits.t7")
MXNET = [str(DIGITS / "mxnet" / name) for name in ("digits-symbol.json", "digits-0010.params")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    model = converters.load(*CAFFE)
    for name in ("net.onnx", "net.pth", "net.safetensors"):
        converters.save(model, folder / name)
    return folder


def altered(path: Path, name: str, by: float, place: int = 100) -> Path:
    """A copy of an ONNX file, one number of one weight changed."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[place] += by
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    target = path.with_name(f"altered-{name}.onnx")
    onnx.save(proto, target)
    return target


@pytest.mark.parametrize("first", ["legacy", "net.onnx", "net.pth"])
@pytest.mark.parametrize("name, layer", [("conv2a.weight", "conv2a"), ("ip2.bias", "ip2")])
def test_a_weight_altered_by_a_thousandth_is_named(first, name, layer, made):
    other = altered(made / "net.onnx", name, 1e-3, 4)
    report = converters.verify(CAFFE if first == "legacy" else [made / first], [other], trust=True)
    assert not report.ok and [d.name for d in report.weights] == [name]
    assert "1e-03" in str(report.weights[0]).replace("0.001", "1e-03") and "in 1 of" in str(report.weights[0])
    graph = {"legacy": f"deploy.prototxt:{69 if layer == 'conv2a' else 180} {layer} ", "net.onnx": f"net.onnx {layer}_"}
    place = graph.get(first, f"{other.name} {layer}_")  # a written module has the graph of the other side
    assert report.layers[0].source.startswith(place)


def scaled(path: Path, name: str, by: float) -> Path:
    """A copy of an ONNX file, all of one weight multiplied, and what is made of it divided again."""
    proto = onnx.load(path)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(by), name))
    target = path.with_name(f"scaled-{by:g}-{path.name}")
    onnx.save(proto, target)
    return target


def test_a_weight_altered_within_the_tolerance_is_named_too(made):
    """A thousandth of numbers of some tens: beside them it is 3e-5, which the tolerance lets pass."""
    first = scaled(made / "net.onnx", "conv2a.weight", 100)
    report = converters.verify(first, altered(first, "conv2a.weight", 1e-3, 4))
    assert report.ok and not report.weights
    [note] = [note for note in report.notes if not note.startswith("every number of prob is 0 or 1")]
    assert note.startswith("weights differ within the tolerance: conv2a.weight: largest difference 0.001 in 1 of")
    assert "conv2a" in report.layers[0].source, "what it changes is looked for, in float64"


def test_a_weight_whose_effect_drowns_is_said_to(made):
    first = scaled(made / "net.onnx", "conv2a.weight", 1e8)
    report = converters.verify(first, altered(first, "conv2a.weight", 1, 4))
    assert report.ok and not report.layers
    said = [note for note in report.notes if not note.startswith("every number of prob is 0 or 1")]
    assert said[0].startswith("the weights differ, yet no layer's answers do") and "conv2a.weight" in said[1]


def test_little_memory_finds_the_same_layer(made, monkeypatch):
    other = altered(made / "net.onnx", "conv2b.weight", 1e-3)
    found = converters.verify([made / "net.onnx"], [other]).layers[0].name
    monkeypatch.setattr(search, "LIMIT", 1)
    assert converters.verify([made / "net.onnx"], [other]).layers[0].name == found


def test_legacy_files_against_what_they_became(made, tmp_path):
    assert converters.verify(CAFFE, made / "net.onnx", level="full").ok
    for files, shape in (([LUA], (1, 1, 16, 16)), (MXNET, (1, 1, 16, 16))):
        model = converters.load(*files, inputs={"": shape})
        target = tmp_path / f"{Path(files[0]).stem}.onnx"
        converters.save(model, target)
        report = converters.verify(files, target)  # the shapes are the ONNX file's
        assert report.ok and report.trials and report.compared == len(model.graph.initializers), report


def test_a_written_source_runs_with_trust_alone(made):
    kept = converters.verify(made / "net.onnx", made / "net.pth")
    assert kept.ok and not kept.trials and "wasn't run" in " ".join(kept.notes)
    run = converters.verify(made / "net.onnx", made / "net.pth", trust=True)
    assert run.ok and len(run.trials) == 3 and run.compared == 19
    source = made / "net.py"
    before = source.read_text()
    source.write_text(before.replace("softmax", "log_softmax"))
    try:
        assert not converters.verify(made / "net.onnx", made / "net.pth", trust=True).ok
    finally:
        source.write_text(before)


def test_the_original_s_own_answers(made, tmp_path, capsys):
    expected = np.load(DIGITS / "caffe" / "expected.npz")["prob"]
    images = np.load(DIGITS / "digits_test.npz")["images"]
    session = converters.load(*CAFFE)
    x = np.random.default_rng(5).standard_normal((4, 1, 16, 16)).astype(np.float32)
    from converters.runtimes.torch import run_torch

    prob = run_torch(session, {"data": x})[0]
    assert expected.shape[1] == prob.shape[1] and len(images) == len(expected)
    np.savez(tmp_path / "in.npz", data=x)
    np.savez(tmp_path / "out.npz", prob=prob)
    np.savez(tmp_path / "wrong.npz", prob=prob + np.float32(1e-3))
    words = ["verify", str(made / "net.onnx"), "--feed", str(tmp_path / "in.npz"), "--expect"]
    assert cli.main([*words, str(tmp_path / "out.npz")]) == 0
    assert cli.main([*words, str(tmp_path / "wrong.npz")]) == 1
    target = tmp_path / "again.onnx"
    command = ["caffe2onnx", *CAFFE, str(target), "--verify", "--feed", str(tmp_path / "in.npz"), "--expect"]
    assert cli.main([*command, str(tmp_path / "wrong.npz")]) == 1 and not target.exists()
    assert cli.main([*command, str(tmp_path / "out.npz")]) == 0 and target.exists()
    np.savez(tmp_path / "other.npz", image=x)
    assert (
        cli.main(["verify", str(made / "net.onnx"), "--feed", str(tmp_path / "other.npz"), "--expect", str(tmp_path / "out.npz"), "--json"])
        == 0
    )
    assert "inputs are paired in order: data = image" in capsys.readouterr().out


def test_the_library_runs_on_the_inputs_that_it_is_given(made, tmp_path):
    """Arrays or a file, of a loaded model, of the files of one and of two."""
    x = np.zeros((5, 1, 16, 16), np.float32)
    np.savez(tmp_path / "in.npz", data=x)
    net, onnx_file = converters.load(*CAFFE), made / "net.onnx"
    for sides in ((net,), (onnx_file,), (CAFFE, onnx_file)):
        for given in ({"inputs": {"data": x}}, {"feed": tmp_path / "in.npz"}):
            report = converters.verify(*sides, **given)
            assert report.ok and [trial.name for trial in report.trials] == ["the inputs given"]
    np.savez(tmp_path / "out.npz", prob=converters.to_module(net)(torch.from_numpy(x)).detach().numpy())
    assert converters.verify(onnx_file, inputs={"data": x}, expect=tmp_path / "out.npz").ok
    for sides in ((net,), (onnx_file,)):
        with pytest.raises(converters.ConversionError, match="which inputs the expected answers belong to; give feed or inputs"):
            converters.verify(*sides, expect=tmp_path / "out.npz")


def test_the_written_source_itself_is_run(tmp_path, monkeypatch, capsys):
    """With a writer that writes another operator, nothing is written: not the graph before it is verified, but the file."""
    from converters.writers import saving

    real = saving.source_and_state

    def other(*args, **options):
        written = real(*args, **options)
        return written._replace(text=written.text.replace("softmax", "log_softmax"))

    monkeypatch.setattr(saving, "source_and_state", other)
    assert cli.main(["caffe2torch", *CAFFE, str(tmp_path / "net.pth"), "--verify"]) == 1
    assert "NOT EQUAL" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_what_is_tried():
    model = converters.load(*CAFFE)
    quick = dict(inputs_to_try(model))
    assert [array["data"].shape[0] for array in quick.values()] == [2, 2, 3]
    assert np.abs(quick["100 times as large"]["data"]).max() > 100
    full = dict(inputs_to_try(model, "full"))
    assert {"zeros", "negative numbers"} < set(full) and {array["data"].shape[0] for array in full.values()} == {1, 2, 3, 5}
    assert not full["zeros"]["data"].any() and (full["negative numbers"]["data"] <= 0).all()


def test_files_are_grouped_into_models():
    groups = artefacts_of([*CAFFE, *MXNET, LUA])
    assert [len(group) for group in groups] == [2, 2, 1]


def test_verify_takes_a_level_and_files_behind_it(tmp_path, capsys):
    assert cli.main(["caffe2onnx", "--verify", *CAFFE, str(tmp_path / "a.onnx"), "--json"]) == 0
    assert cli.main(["caffe2onnx", *CAFFE, str(tmp_path / "b.onnx"), "--verify", "full", "--quiet"]) == 0
    assert cli.main(["caffe2onnx", *CAFFE, str(tmp_path / "c.onnx"), "--verif"]) == 2, "options aren't abbreviated"
    assert not (tmp_path / "c.onnx").exists()


def test_provenance_stands_in_what_is_written(made, tmp_path):
    import zlib

    digests = [f"{zlib.crc32(Path(path).read_bytes()):08x}" for path in CAFFE]
    sizes = [Path(path).stat().st_size for path in CAFFE]
    for name in ("net.onnx", "net.safetensors", "net.py"):
        found = converters.inspect(made / name).provenance
        assert found["tool"] == f"converters {converters.__version__}"
        assert found["sources"] == [
            {"name": Path(path).name, "bytes": size, "crc32": digest} for path, size, digest in zip(CAFFE, sizes, digests, strict=True)
        ]
    source = " ".join((made / "net.py").read_text().split())
    assert all(f"CRC-32 {digest}" in source for digest in digests)
    for file in made.iterdir():
        assert str(DIGITS).encode() not in file.read_bytes(), "no paths"
    converters.strip_to_weights(LUA, tmp_path / "w.safetensors")
    assert converters.inspect(tmp_path / "w.safetensors").provenance["sources"][0]["name"] == "digits.t7"


def test_the_report_as_data(made):
    report = converters.verify(made / "net.onnx", altered(made / "net.onnx", "ip1.weight", 1e-3))
    plain = json.loads(json.dumps(report.as_dict()))
    assert (
        plain["ok"] is False
        and plain["weights"][0]["name"] == "ip1.weight"
        and plain["weights"][0]["absolute"] == pytest.approx(1e-3, rel=1e-3)
    )
    assert plain["trials"][0]["outputs"][0]["name"] == "prob"


TENSORFLOW = DIGITS / "tensorflow"


def test_equal_numbers_under_other_names_are_the_same_weights(tmp_path):
    """A prefix that a wrapper left, and counters of training that no other format keeps, are no difference; other numbers are."""
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(6, 12, dtype=np.float32).reshape(2, 3)}
    save_file({f"module.{name}": array for name, array in weights.items()}, tmp_path / "one.safetensors")
    save_file({**weights, "bn.num_batches_tracked": np.array(7)}, tmp_path / "other.safetensors")
    report = converters.verify(tmp_path / "one.safetensors", tmp_path / "other.safetensors")
    assert report.ok and [note.split(":")[0] for note in report.notes] == [
        "2 tensors hold the same numbers under other names",
        "1 counters of training (num_batches_tracked) are in one file alone; no answer depends on them",
    ]
    save_file({"a": weights["b"], "b": weights["a"]}, tmp_path / "swapped.safetensors")
    assert not converters.verify(tmp_path / "other.safetensors", tmp_path / "swapped.safetensors").ok, "a name of both is what counts"
    save_file({"c": weights["a"], "d": weights["a"]}, tmp_path / "twice.safetensors")
    report = converters.verify(tmp_path / "one.safetensors", tmp_path / "twice.safetensors")
    assert [d.name for d in report.outputs] == ["module.b", "d"] and not report.ok, "each is taken once"
    assert report.notes[-1].startswith("no name is in both files")


def test_a_side_that_would_run_with_a_shape_is_not_called_different(tmp_path):
    converters.save(converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)}), tmp_path / "net.pth")
    with pytest.raises(
        ConversionError, match=r"hold the same numbers under other names, the others don't, and .*wasn't run.*--input data="
    ):
        converters.verify(tmp_path / "net.pth", MXNET, trust=True)
    assert converters.verify(tmp_path / "net.pth", MXNET, trust=True, shapes={"data": (1, 1, 16, 16)}).ok


def test_tensorflow_graphs_take_outputs_and_shapes_from_the_other_side(tmp_path):
    converters.save(converters.load(TENSORFLOW / "digits.pb"), tmp_path / "net.onnx")
    training = [TENSORFLOW / "digits.ckpt.meta", TENSORFLOW / "digits.ckpt"]
    for sides in ((tmp_path / "net.onnx", TENSORFLOW / "digits.pb"), (training, tmp_path / "net.onnx"), (tmp_path / "net.onnx", training)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = converters.verify(*sides)
        assert report.ok and report.trials and report.compared == 14, report


def test_python_code_of_one_side_and_a_source_for_its_weights(made, capsys):
    """--code means nothing to an ONNX file beside it; a .py stands for itself and the .pth it was written with."""
    whole, code = str(DIGITS / "pytorch" / "digits_whole.pth"), ["--code", str(DIGITS / "pytorch"), "--trust"]
    target = made / "whole.onnx"
    assert main(["torch2onnx", whole, str(target), "--input", "1x1x16x16", *code, "--quiet"]) == 0
    assert main(["verify", whole, str(target), *code, "--quick"]) == 0
    assert main(["verify", str(made / "net.py"), str(made / "net.onnx"), "--trust", "--quick"]) == 0
    assert "net.pth in PyTorch" in capsys.readouterr().out
    lone = made / "lone.py"
    lone.write_text("x = 1")
    assert main(["verify", str(lone), str(made / "net.onnx"), "--trust"]) == 1
    assert "give the .pth" in capsys.readouterr().err


def test_two_written_modules_run_on_given_shapes(made, capsys):
    asked = ["verify", str(made / "net.pth"), str(made / "net.py"), "--trust", "--quick"]
    assert main(asked) == 1 and "--input data=..." in capsys.readouterr().err
    assert main([*asked, "--input", "1x1x16x16"]) == 0
    said = capsys.readouterr().out
    assert "100 times as large" in said and said.count("inputs are paired in order") == 1


def test_arrays_of_other_types_and_shapes(made, tmp_path, capsys):
    """A user's arrays are made what the net takes, where that keeps the numbers; what it refuses is named, no internal error."""
    x = np.random.default_rng(0).standard_normal((4, 1, 16, 16)).astype(np.float32)
    with torch.no_grad():
        right = converters.to_module(converters.load(*CAFFE))(torch.from_numpy(x)).numpy()
    np.savez(tmp_path / "right.npz", prob=right)
    np.savez(tmp_path / "doubles.npz", data=x.astype(np.float64))
    np.savez(tmp_path / "last.npz", data=x.transpose(0, 2, 3, 1))
    np.savez(tmp_path / "complex.npz", data=x.astype(np.complex64))
    for files in (CAFFE, [str(made / "net.onnx")]):
        assert main(["verify", *files, "--feed", str(tmp_path / "doubles.npz"), "--expect", str(tmp_path / "right.npz")]) == 0
        assert "the float64 numbers given for data became float32" in capsys.readouterr().out
    assert main(["verify", *CAFFE, "--feed", str(tmp_path / "complex.npz"), "--expect", str(tmp_path / "right.npz")]) == 1
    assert "input 'data' is float32 in this model, the array given complex64" in capsys.readouterr().err
    assert main(["verify", *CAFFE, "--feed", str(tmp_path / "last.npz"), "--expect", str(tmp_path / "right.npz")]) == 1
    said = capsys.readouterr().err
    assert "doesn't run on data float32 4x16x16x1" in said and "the inputs are data Nx1x16x16" in said and "internal" not in said


@pytest.mark.parametrize("files, name", [([LUA], "output"), (MXNET, "softmax_output")])
def test_the_given_arrays_say_what_shapes_the_inputs_have(files, name, tmp_path):
    expected = np.load(Path(files[0]).with_name("expected.npz"))[name]
    images = np.load(DIGITS / "digits_test.npz")["images"]
    np.savez(tmp_path / "in.npz", (images.astype(np.float32) / 16).repeat(2, 1).repeat(2, 2)[:, None])
    np.savez(tmp_path / "right.npz", **{name: expected})
    assert converters.verify(files, feed=tmp_path / "in.npz", expect=tmp_path / "right.npz").ok
    np.savez(tmp_path / "wrong.npz", **{name: expected + 1})
    assert not converters.verify(files, feed=tmp_path / "in.npz", expect=tmp_path / "wrong.npz").ok


def test_arrays_pair_by_name_where_they_can():
    notes: list[str] = []
    found = by_names({"y": np.zeros(1), "z": np.ones(1)}, ["x", "y"], "input", notes)
    assert found["y"][0] == 0 and found["x"][0] == 1 and list(found) == ["x", "y"]
    assert notes == ["inputs are paired in order: x = z"]


def test_code_that_was_not_trusted_is_why_nothing_ran(made, tmp_path, capsys):
    np.savez(tmp_path / "in.npz", np.zeros((1, 1, 16, 16), np.float32))
    assert main(["verify", str(made / "net.pth"), "--feed", str(tmp_path / "in.npz"), "--expect", str(tmp_path / "in.npz")]) == 1
    assert "net.py is Python code, which wasn't run (--trust lets it)" in capsys.readouterr().err


def product(path: Path, batch: int, outputs: list[str]) -> Path:
    """An ONNX file of a fixed batch: the input's sum with itself, and its negative."""
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["sum"]), onnx.helper.make_node("Neg", ["x"], ["negative"])]
    shape = [onnx.helper.make_tensor_value_info(name, 1, [batch, 4]) for name in ("x", *outputs)]
    graph = onnx.helper.make_graph(nodes, "net", shape[:1], shape[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_what_two_files_dont_have_in_common_is_said(tmp_path):
    both = ["sum", "negative"]
    one = product(tmp_path / "one.onnx", 1, both)
    with pytest.raises(ConversionError, match=r"one.onnx takes 1x4 and five.onnx takes 5x4: convert one of them again"):
        converters.verify(one, product(tmp_path / "five.onnx", 5, both))
    with pytest.raises(ConversionError, match=r"one.onnx has 2 outputs, less.onnx has 1; convert both to the same ones"):
        converters.verify(one, product(tmp_path / "less.onnx", 1, both[:1]))
    assert converters.verify(one, product(tmp_path / "turned.onnx", 1, both[::-1])).ok, "by name, whatever their order"
