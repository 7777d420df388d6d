"""What several crops are averaged over, by formula: probabilities, or logits from whatever the net ends in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.evaluation.classes import Classifier
from converters.evaluation.model import RunningModel
from converters.preprocessing import Preprocess

LOGITS = np.random.default_rng(5).normal(size=(2 * 10, 7)) * 3
FIELDS = {"decode": "pil", "color": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1], "crop": 4, "crop_offset": "ceil", "crops": 10}


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


ENDINGS = {"logits": LOGITS, "probabilities": softmax(LOGITS), "log-probabilities": np.log(softmax(LOGITS))}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_average(ending: str, average: str) -> None:
    model = RunningModel(lambda items: [ENDINGS[ending].astype(np.float32)[: len(items)]], ["out"], None)
    classifier = Classifier(model, Preprocess.from_dict({**FIELDS, "average": average}))
    got = classifier([np.zeros((10, 3, 4, 4), np.float32)] * 2)
    grouped = LOGITS.reshape(2, 10, 7)
    want = softmax(grouped).mean(1) if average == "probabilities" else softmax(grouped.mean(1))
    assert classifier.ending == ending
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_fixed_batch_is_filled_up() -> None:
    seen: list[tuple[int, ...]] = []

    def run(items: Any) -> list[Any]:
        seen.append(items.shape)
        return [items.sum(axis=(1, 2, 3))]

    items = np.arange(5 * 3, dtype=np.float32).reshape(5, 3, 1, 1)
    (answer,) = RunningModel(run, ["out"], 2)(items)
    assert seen == [(2, 3, 1, 1)] * 3
    np.testing.assert_array_equal(answer, items.sum(axis=(1, 2, 3)))
