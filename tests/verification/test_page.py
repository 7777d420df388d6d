"""The report page: self-contained, everything from files escaped, readable without scripts, quick for a thousand layers."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import converters
from converters.cli import main
from converters.errors import Source
from converters.graph.builder import GraphBuilder
from converters.runtimes.compare import Difference
from converters.verification.drawing import plot
from converters.verification.html import path_text
from converters.verification.page import write_page
from converters.verification.report import Report, Trial
from converters.verification.weights import Looked, look_at
from tests.work import at_most

CAFFE = [str(Path(__file__).parents[2] / "fixtures" / "digits" / "caffe" / name) for name in ("deploy.prototxt", "digits.caffemodel")]
EVIL = '</td><script>alert("x")</script>&<img src=x onerror=alert(1)>'


class Balanced(HTMLParser):
    """Every element that is opened is closed, and scripts and links are counted."""

    VOID = frozenset({"meta", "input", "br", "wbr", "rect", "line", "circle", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts, self.links = 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.links += [value for name, value in attrs if name in ("src", "href", "onerror")]
        if tag not in self.VOID or tag == "circle":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(path: Path) -> str:
    text = path.read_text()
    parser = Balanced()
    parser.feed(text)
    assert not parser.open and parser.scripts == 1 and not parser.links
    assert not re.findall(r"https?://|@import|url\(", text)
    return text


def deep(layers: int, name: str = "layer"):
    g = GraphBuilder("deep", symbolic_batch=True)
    x = g.input("x", (1, 4))
    for number in range(layers):
        with g.at(Source("net.prototxt", "layer", f"{name}{number}", "InnerProduct", number), f"fc{number}"):
            x = g.emit("MatMul", x, g.param("weight", np.eye(4, dtype=np.float32)))
    g.output(x, "y")
    return g.finish()


def test_the_page_of_a_conversion(tmp_path):
    page = tmp_path / "out.html"
    assert main(["caffe2onnx", *CAFFE, str(tmp_path / "net.onnx"), "--report", str(page), "--quiet"]) == 0
    text = checked(page)
    for path in [*CAFFE, tmp_path / "net.onnx"]:
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() in text
    assert "deploy.prototxt:69 conv2a (Convolution)" in text and "13,402 parameters" in text and "262,528 FLOPs" in text
    assert text.count("<circle") >= 18 and "Equal within the tolerance" in text and str(tmp_path) not in text
    assert main(["caffe2onnx", *CAFFE, str(tmp_path / "other.onnx"), "--report", str(page)]) == 1, "a page that exists is kept"


TENSORFLOW = Path(CAFFE[0]).parents[1] / "tensorflow"


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        (["digits.pb"], ["digits.pb"]),
        (["digits.ckpt.meta", "digits.ckpt"], ["digits.ckpt.meta", "digits.ckpt.index", "digits.ckpt.data-00000-of-00001"]),
    ],
)
def test_the_page_names_every_file_that_was_read(given, sources, tmp_path):
    """A format with a file that a model may do without, and one whose weights lie in several; the written file names them as well."""
    files = [str(TENSORFLOW / name) for name in given]
    asked = ["--output", "Predictions/Reshape_1", "--report", str(tmp_path / "out.html"), "--quiet"]
    assert main(["tf2onnx", *files, str(tmp_path / "net.onnx"), *asked]) == 0
    text = checked(tmp_path / "out.html")
    for path in [*(TENSORFLOW / name for name in sources), tmp_path / "net.onnx"]:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    origin = converters.inspect(tmp_path / "net.onnx").as_dict()
    assert all(name in str(origin) for name in sources)
    assert text.count("<td>source") == len(sources) and "Conv1/Conv2D (Conv2D)" in text


def test_a_long_path_breaks_and_is_found_whole():
    path = "InceptionV3/Mixed_7c/Branch_1/Conv2d_0b_1x3/weights"
    assert path_text("Conv1/Conv2D") == "Conv1/Conv2D"
    assert f'title="{path}"' in path_text(path) and "Mixed_<wbr>7c/<wbr>Branch" in path_text(path)
    assert "<b>" not in path_text("<b>/" * 20) and '""' not in path_text('"/' * 30)


def test_answers_of_zeros_and_ones_show_little():
    """A softmax of large numbers hides what is wrong before it, which is said; one of ordinary numbers doesn't."""
    for scale, count in ((1e6, 1), (0.1, 0)):
        g = GraphBuilder("saturated", symbolic_batch=True)
        x = g.input("x", (1, 8))
        weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32) * np.float32(scale / 100)
        g.output(g.emit("Softmax", g.emit("MatMul", x, g.param("weight", weight)), axis=1), "y")
        notes = converters.verify(g.finish()).notes
        assert len([note for note in notes if note.startswith("every number of y is 0 or 1")]) == count, notes


def test_the_page_names_an_altered_weight(tmp_path):
    import onnx
    from onnx import numpy_helper

    model = converters.load(*CAFFE)
    converters.save(model, tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == "ip1.weight":
            array = numpy_helper.to_array(tensor).copy()
            array.flat[7] += 1e-3
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, tmp_path / "b.onnx")
    assert main(["verify", *CAFFE, str(tmp_path / "b.onnx"), "--quick", "--report", str(tmp_path / "out.html")]) == 1
    text = checked(tmp_path / "out.html")
    assert "Not equal" in text and "ip1.weight" in text.split("Files")[1].split("Layers")[0]
    assert "deploy.prototxt:156 ip1 (InnerProduct)" in text.split("The first layers that differ")[1].split("<h2>Layers")[0]


def test_the_page_of_weights_alone_names_what_differs(tmp_path):
    """The title has a file of each side, whatever else the first side is made of."""
    from safetensors.numpy import save_file

    for name, number in (("a", 0.0), ("b", 1.0)):
        save_file(
            {"conv.weight": np.full((2, 3), number, np.float32), "conv.bias": np.ones(2, np.float32)}, tmp_path / f"{name}.safetensors"
        )
    asked = ["verify", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "--report", str(tmp_path / "out.html")]
    assert main(asked) == 1
    text = checked(tmp_path / "out.html")
    assert "<h1>Verification of a.safetensors and b.safetensors</h1>" in text and "Not equal" in text
    assert "conv.weight" in text and "in 6 of 6 numbers" in text and "conv.bias" not in text
    converters.save(converters.load(*CAFFE), tmp_path / "net.onnx")
    assert main(["verify", *CAFFE, str(tmp_path / "net.onnx"), "--quick", "--report", str(tmp_path / "both.html")]) == 0
    assert "<h1>Verification of deploy.prototxt and net.onnx</h1>" in checked(tmp_path / "both.html")


def test_nothing_of_a_file_is_markup(tmp_path):
    source = tmp_path / "net<b>.prototxt"
    source.write_text("x")
    model = deep(3, EVIL)
    report = Report([], notes=[EVIL], what=EVIL, trials=[Trial(EVIL, [Difference(EVIL, float("inf"), 0.0, note=EVIL)])])
    write_page(tmp_path / "out.html", report, files=[(EVIL, source)], model=model, layers=[Difference(EVIL, float("nan"), 1, EVIL)])
    checked(tmp_path / "out.html")


def test_what_is_odd_about_weights():
    g = GraphBuilder("odd", symbolic_batch=True)
    x = g.input("x", (1, 8))
    random = np.random.default_rng(0)
    arrays = {"good": random.standard_normal((8, 8)), "dead": random.standard_normal((8, 8)), "nan": random.standard_normal((8, 8))}
    arrays |= {
        "constant": np.full((8, 8), 0.5),
        "large": random.standard_normal((8, 8)) * 1e6,
        "stuck": np.sign(random.standard_normal((64, 8))),
    }
    arrays["dead"][2:5] = 0
    arrays["nan"][0, 0] = np.nan
    values = [g.param("weight", array.astype(np.float32), path=name) for name, array in arrays.items()]
    for value in values[:5]:
        x = g.emit("MatMul", x, value)
    g.output(x, "y")
    g.output(g.emit("MatMul", values[5], values[0]), "z")
    found = {name.removesuffix(".weight"): seen.remarks for name, seen in look_at(g.finish()).items()}
    assert found["good"] == [] and found["dead"] == ["3 of 8 channels dead"] and found["constant"] == ["constant 0.5"]
    seen = look_at(g.finish())
    assert seen["constant.weight"].is_odd and not Looked("64", 1, 1, 1, [64], ["constant 1"]).is_odd, "scales of 1 are nothing odd"
    assert found["nan"] == ["1 NaN, 0 infinite"] and found["large"] == ["very large numbers"] and "saturated" in found["stuck"][0]


def test_the_log_axis():
    text = plot([("a", 0.0), ("b", 1e-8), ("c", 1.0), ("d", float("inf"))], 1e-4)
    heights = [float(y) for y in re.findall(r"<circle[^>]*cy=([\d.]+)", text)]
    assert heights[0] > heights[1] > heights[2] >= heights[3]
    assert abs(heights[1] - (heights[0] + heights[2]) / 2) < 0.2, "halfway between 1e-16 and 1"


def test_a_thousand_layers_take_a_moment(tmp_path):
    model = deep(1000)
    layers = [Difference(f"v{number}", 1e-7, 1.0, f"net.prototxt:{number} layer{number} (InnerProduct)") for number in range(1000)]
    with at_most(20, "a page of 1,000 layers"):
        write_page(tmp_path / "out.html", Report([]), files=[], model=model, layers=layers)
    assert (tmp_path / "out.html").stat().st_size < 3_000_000
    checked(tmp_path / "out.html")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def browse(page: Path, *options: str, width: int = 1000) -> str:
    """What Chromium prints of a page, its dump of the document with --dump-dom."""
    words = [str(CHROMIUM), *QUIET.split(), "--disable-sync", f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run([*words, *options, page.as_uri()], capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_browser
@pytest.mark.parametrize("scheme", ["0", "1"])
def test_in_a_browser(scheme, tmp_path):
    """A picture of it isn't empty: dark paper in the dark scheme (0), light in the light one."""
    image = pytest.importorskip("PIL.Image")
    write_page(tmp_path / "out.html", Report([]), files=[("source", CAFFE[0])], model=deep(1000))
    shot = tmp_path / "shot.png"
    browse(tmp_path / "out.html", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
    picture = image.open(shot).convert("L")
    corner, extremes = picture.getpixel((2, 2)), picture.getextrema()
    assert (corner < 64) == (scheme == "0") and extremes[1] - extremes[0] > 150


MEASURE = """<script>addEventListener("load", () => {
  const tables = [...document.querySelectorAll(".scroll")].filter(part => part.querySelector("table"));
  const cut = Math.max(...tables.map(part => part.scrollWidth - part.clientWidth));
  document.documentElement.dataset.found = [cut, tables.length].join(" ");
})</script></body>"""


@needs_browser
def test_a_thousand_layers_open_and_no_column_is_cut(tmp_path):
    layers = [Difference(f"v{n}", 1e-7, 1.0, f"net.prototxt:{n} res24_branch2b_conv{n} (InnerProduct)") for n in range(1000)]
    page = tmp_path / "out.html"
    write_page(page, Report([]), files=[("source", CAFFE[0])], model=deep(1000, "res24_branch2b_conv"), layers=layers)
    page.write_text(page.read_text().replace("</body>", MEASURE))
    found = re.search(r'data-found="(-?\d+) (\d+)"', browse(page, "--dump-dom", width=1200))
    assert found is not None
    cut, tables = map(int, found.groups())
    assert tables == 3 and cut <= 0
