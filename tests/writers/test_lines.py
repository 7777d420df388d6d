"""Lines of written source are broken without a change of what they say."""

from __future__ import annotations

import ast

import pytest

from converters.writers.source.code import NOTE
from converters.writers.source.lines import WIDTH, wrapped

LONG = "a_value_with_quite_a_long_name"
STATEMENTS = {
    "call": f"x = F.some_function({LONG}, {LONG}, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))",
    "nested": f"x = torch.cat([F.relu({LONG}), torch.sigmoid({LONG} + 1), F.softmax({LONG}, 1), {LONG}], 1)",
    "sum": " + ".join(f"{LONG}{n}" for n in range(6)),
    "assigned sum": "x = " + " + ".join(f"{LONG}{n}" for n in range(6)),
    "returned": f"return {LONG}1, {LONG}2, {LONG}3, {LONG}4, {LONG}5",
    "unpacked": f"{LONG}1, {LONG}2, {LONG}3, {LONG}4 = x.split([4, 4, 4, 4], 1)",
    "numbers": f"x = torch.tensor({[round(n / 7, 5) for n in range(64)]}, dtype=torch.float32)",
    "matrix": f"x = torch.tensor({[[float(n * m) for n in range(20)] for m in range(4)]})",
    "text": "x = f(" + ", ".join(repr("a, (b" + "c" * n) for n in range(12)) + ")",
    "index": f"x = {LONG}[:, 1:3, {LONG}.shape[0] - 1 : {LONG}.shape[1] // 2, ..., {LONG}]",
    "chain": f"x = {LONG}.reshape({LONG}.shape[0], -1, 7).permute(0, 2, 1).flatten(1).unsqueeze(1).mean((2, 3))",
    "signature": "def forward(self, " + ", ".join(f"{LONG}{n}: torch.Tensor" for n in range(4)) + ") -> torch.Tensor: pass",
    "signature of many answers": f"def forward(self, {', '.join(f'{LONG}{n}: torch.Tensor' for n in range(4))}) -> tuple["
    + ", ".join(["torch.Tensor"] * 7)
    + "]: pass",
    "long tail": f"x = f({', '.join(f'{LONG}{n}' for n in range(9))}).reshape({LONG}.shape[0], {LONG}.shape[1], 7).permute({LONG}, 2, 1)",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_they_say_the_same(name):
    inner = f"def f(self):\n    {STATEMENTS[name]}\n"
    broken = "def f(self):\n" + "\n".join(wrapped(STATEMENTS[name] + NOTE + "net.prototxt:7 conv (Convolution)", "    ")) + "\n"
    assert ast.dump(ast.parse(broken)) == ast.dump(ast.parse(inner))
    assert max(map(len, broken.splitlines())) <= WIDTH
    assert "# net.prototxt:7 conv (Convolution)" in broken


def test_what_is_short_stays():
    assert wrapped("x = F.relu(x)" + NOTE + "relu1", "        ") == ["        x = F.relu(x)  # relu1"]


def test_quotes_are_those_of_formatters():
    assert wrapped("""x = f('constant', "it's", 'say "x"')""", "") == ["""x = f("constant", "it's", 'say "x"')"""]
