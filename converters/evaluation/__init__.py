"""What people do with a converted model: classify, extract features, measure accuracy and speed, with the original's preprocessing."""

from typing import TYPE_CHECKING

from converters.packages import lazily

if TYPE_CHECKING:
    from converters.evaluation.accuracy import Accuracy, evaluate
    from converters.evaluation.classes import Answer, classify, read_labels
    from converters.evaluation.features import Features, extract_features
    from converters.evaluation.model import RunningModel, open_model
    from converters.evaluation.timing import Benchmark, benchmark

__all__ = [
    "Accuracy",
    "Answer",
    "Benchmark",
    "Features",
    "RunningModel",
    "benchmark",
    "classify",
    "evaluate",
    "extract_features",
    "open_model",
    "read_labels",
]

_PLACES = {
    "accuracy": ("Accuracy", "evaluate"),
    "classes": ("Answer", "classify", "read_labels"),
    "features": ("Features", "extract_features"),
    "model": ("RunningModel", "open_model"),
    "timing": ("Benchmark", "benchmark"),
}
__getattr__ = lazily(__name__, {name: f"{__name__}.{module}" for module, names in _PLACES.items() for name in names})
