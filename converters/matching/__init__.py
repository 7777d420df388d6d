"""Weights onto the user's own class: which key of a file belongs to which key of a module, proven by running both."""

from converters.matching.match import Match, match

__all__ = ["Match", "match"]
