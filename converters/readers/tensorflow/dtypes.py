"""TensorFlow's element types. Source: TensorFlow's core/framework/types.proto."""

from __future__ import annotations

from converters.errors import FormatError

NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "int8",
    12: "uint8",
    13: "int32",
    14: "bfloat16",
    15: "int16",
    16: "uint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""torch's names by TensorFlow's numbers; the quantized types (11, 12, 13, 15, 16) are the integers that hold them."""

NO_NUMBERS = {7: "string", 20: "resource", 21: "variant"}
"""Types that hold no numbers."""

_REFERENCE = 100
"""What is added to the number of a reference to a variable of the type."""


def type_name(number: int, what: str) -> str:
    """torch's name of a type. Raises FormatError for one that holds no numbers, or isn't known."""
    number = number - _REFERENCE if number > _REFERENCE else number
    if number in NAMES:
        return NAMES[number]
    raise FormatError(f"{what} has the type {NO_NUMBERS.get(number, number)}, which holds no numbers that are known here")
