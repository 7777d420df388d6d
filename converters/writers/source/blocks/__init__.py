"""Repeated stretches of a flat net as classes with arguments: where they are, the class that they share, and the fold into the source."""

from converters.writers.source.blocks.folding import fold

__all__ = ["fold"]
