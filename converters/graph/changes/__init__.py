"""Changes to a finished net that its user asks for: the preprocessing put into it, and a fresh classifier. Both in place."""

from converters.graph.changes.classifier import replace_classifier
from converters.graph.changes.folding import fold_input

__all__ = ["fold_input", "replace_classifier"]
