"""What people do with a converted model: classify, extract features, measure accuracy and speed, with the original's preprocessing."""

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
