"""The registry with all built-in lowerings in it."""

from converters.readers.torch7.module import lowers
from converters.registry import import_topics

import_topics("converters.readers.torch7.modules")

__all__ = ["lowers"]
