"""Lines of Python within a width, broken at brackets and commas as one would by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from converters.writers.source.code import NOTE

WIDTH = 100
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_PLAIN_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'([^'\"\\]*)'")
_OPERATOR = re.compile(r" (?=(?:[-+*/|&]|//) )")


def wrapped(line: str, indent: str) -> list[str]:
    """One line of code, its comment behind a NOTE, as lines; a comment that doesn't fit behind the code goes before it."""
    text, _, comment = line.partition(NOTE)
    if not text:
        return [""]
    deeper = re.match(" *", text)
    indent += deeper[0] if deeper else ""
    text = _double_quoted(text.lstrip(" "))
    whole = f"{indent}{text}  # {comment}" if comment else indent + text
    if len(whole) <= WIDTH:
        return [whole]
    head = [f"{indent}# {comment}"[:WIDTH].rstrip()] if comment else []
    return head + _broken(text, indent)


def _broken(text: str, indent: str) -> list[str]:
    if len(indent + text) <= WIDTH:
        return [indent + text]
    if text.startswith("del "):
        return [line.removesuffix(",") for line in _filled(_split(text.removeprefix("del ")), f"{indent}del ")]
    targets, sign, right = text.partition(" = ")
    if sign and re.fullmatch(r"\w+(, \w+)+", targets) and len(indent + targets) > WIDTH // 2:
        first, *rest = _broken(f"_ = {right}", indent)
        names = [f"{indent}    {target}," for target in targets.split(", ")]
        return [f"{indent}(", *names, f"{indent}) {first[len(indent) + 2 :]}", *rest]
    groups = list(_groups(text))
    if not groups or max(end - start for start, end in groups) < 16:
        return _at_operators(text, indent)
    start, end = max(groups, key=lambda group: group[1] - group[0])
    head, body, tail = text[: start + 1], text[start + 1 : end], text[end:]
    if len(indent + head) > WIDTH:
        return _at_operators(text, indent)
    inner = indent + "    "
    parts = _split(body)
    lines = [indent + head]
    if len(inner + body) <= WIDTH:
        lines.append(inner + body)
    elif len(parts) == 1:
        lines += _broken(body, inner)
    elif len(parts) > 6 and all(len(part) < 24 and "(" not in part for part in parts):
        lines += _filled(parts, inner)
    else:
        for part in parts:
            lines += _broken(f"{part},", inner)
    return lines + _broken_tail(tail, indent)


def _broken_tail(tail: str, indent: str) -> list[str]:
    """What follows the broken brackets, from the closing one on, which a name stands in for: alone, it would close nothing."""
    first, *rest = _broken(f"_{tail[1:]}", indent)
    if first.startswith(f"{indent}_"):
        return [f"{indent}{tail[0]}{first[len(indent) + 1 :]}", *rest]
    return [indent + tail]


def _filled(parts: list[str], indent: str) -> list[str]:
    """Many short parts, as many in a line as fit."""
    lines = [indent]
    for part in parts:
        if len(lines[-1]) + len(part) + 2 > WIDTH:
            lines.append(indent)
        lines[-1] += ("" if lines[-1] == indent else " ") + f"{part},"
    return lines


def _at_operators(text: str, indent: str) -> list[str]:
    """`x = a + b + c` with a line per term, in brackets, `return x, y` with one per value; a text of one word stays as it is."""
    left, sign, right = text.rpartition(" = ") if re.match(r"[\w., \[\]]+ = ", text) else ("", "", text)
    if text.startswith("return "):
        left, sign, right = "return", " ", text.removeprefix("return ")
    comma = "," if right.endswith(",") else ""
    right = right.removesuffix(",")
    depths = _depths(right)
    places = [match.start() for match in _OPERATOR.finditer(right) if depths[match.start()] == 0]
    if not places:
        parts = _split(right)
        if len(parts) < 2:
            return [indent + text]
        return [f"{indent}{left}{sign}(", *(f"{indent}    {part}," for part in parts), f"{indent})"]
    terms = [right[a:b].strip() for a, b in zip([0, *places], [*places, len(right)], strict=True)]
    return [f"{indent}{left}{sign}(", *(line for term in terms for line in _broken(term, indent + "    ")), f"{indent}){comma}"]


def _double_quoted(text: str) -> str:
    """With the quotes that formatters of Python prefer, where a string has no quote or backslash in it."""
    return _PLAIN_STRING.sub(lambda match: match[0] if match[0][0] == '"' else f'"{match[1]}"', text)


def _depths(text: str) -> list[int]:
    """How many brackets are open at each character; 1 more in strings."""
    depths, depth, quote, escaped = [], 0, "", False
    for character in text:
        if quote:
            depths.append(depth + 1)
            quote = quote if escaped or character != quote else ""
            escaped = character == "\\" and not escaped
            continue
        if character in "'\"":
            quote = character
        elif character in _PAIRS.values():
            depth -= 1
        depths.append(depth + (1 if quote else 0))
        depth += character in _PAIRS
    return depths


def _groups(text: str) -> Iterator[tuple[int, int]]:
    """The outermost pairs of brackets."""
    start = -1
    for position, (character, depth) in enumerate(zip(text, _depths(text), strict=True)):
        if depth == 0 and character in _PAIRS:
            start = position
        elif depth == 0 and character in _PAIRS.values() and start >= 0:
            yield start, position
            start = -1


def _split(body: str) -> list[str]:
    """At the outermost commas."""
    depths = _depths(body)
    cuts = [position for position, character in enumerate(body) if character == "," and depths[position] == 0]
    parts = [body[a:b].strip() for a, b in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(body)], strict=True)]
    return [part for part in parts if part]
