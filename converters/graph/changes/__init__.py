"""Changes to a finished net that its user asks for: preprocessing or batch normalizations put into it, a fresh classifier. All in place."""

from converters.graph.changes.batchnorm import fold_batchnorm
from converters.graph.changes.classifier import replace_classifier
from converters.graph.changes.folding import fold_input

__all__ = ["fold_batchnorm", "fold_input", "replace_classifier"]
