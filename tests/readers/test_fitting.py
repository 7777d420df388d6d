"""What a message proposes where a layer takes another count of numbers than the given image size gives it."""

import re

import pytest

import converters
from tests.conformance import Case, cases


def refusal(case: Case, folder, shape: tuple[int, ...]) -> str:
    (name,) = case.shapes()
    with pytest.raises(converters.ConversionError) as caught:
        converters.load(*case.write_model(folder), inputs={name: shape}, key=case.about.get("model_at") or None)
    return str(caught.value)


def case_of(framework: str, name: str) -> Case:
    return next(case for case in cases(framework) if case.name == name)


@pytest.mark.parametrize(
    "framework, name, shape, words",
    [
        ("caffe", "ip_4d", (2, 3, 7, 8), "InnerProduct"),
        ("torch7", "f_ascii", (2, 3, 11, 11), "nn."),
        ("mxnet", "fc_4d_flatten", (2, 3, 7, 8), "FullyConnected"),
    ],
)
def test_the_size_of_the_weights_is_proposed(tmp_path, framework, name, shape, words):
    case = case_of(framework, name)
    message = refusal(case, tmp_path, shape)
    assert words in message
    proposed = re.search(r"the image size \d+x\d+ gives them, --input (\w+)=([\dx]+)$", message)
    assert proposed, message
    inputs = {proposed[1]: tuple(map(int, proposed[2].split("x")))}
    assert converters.load(*case.write_model(tmp_path), inputs=inputs, key=case.about.get("model_at") or None)


def test_a_size_that_nothing_fits_isnt_proposed(tmp_path):
    case = case_of("mxnet", "fc_4d_flatten")
    assert "another image size may give them" in refusal(case, tmp_path, (2, 7, 4, 5))


def test_other_troubles_of_a_torch_model_say_nothing_of_shapes(tmp_path):
    torch = pytest.importorskip("torch")
    from converters.tracing.program import _OF_SHAPES

    for module, x in ((torch.nn.Linear(3, 2), torch.zeros(1, 4)), (torch.nn.Conv2d(3, 2, 3), torch.zeros(1, 4, 8, 8))):
        with pytest.raises(RuntimeError) as caught:
            module(x)
        assert _OF_SHAPES.search(str(caught.value))
    assert not _OF_SHAPES.search("'Net' object has no attribute 'relu'")
