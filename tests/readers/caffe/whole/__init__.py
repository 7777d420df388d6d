"""Whole nets in plain numpy: prototxt in, numbers out; independent of the reader and of its lowerings."""
