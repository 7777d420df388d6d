"""The generated messages, to a type checker: whatever caffe.proto defines."""

from typing import Any

def __getattr__(name: str) -> Any: ...
