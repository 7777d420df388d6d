"""Reads prototxts on the oldest and the newest protobuf, each in C and in plain Python.

    python -m tests.schemas.protobuf_versions [FOLDER]

Makes a virtual environment for each version in FOLDER (default: a temporary one). Exit status 0 if all read the same.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

VERSIONS = ("protobuf==4.25.0", "protobuf==5.29.3", "protobuf==6.30.0", "protobuf>=7,<8")
ROOT = Path(__file__).resolve().parent.parent.parent

READ = """
import sys, zlib
import google.protobuf
from google.protobuf.internal import api_implementation
from converters.readers.caffe.prototxt import read_net

found = []
for path in sys.argv[1:]:
    for layer in read_net(path).layers:
        found.append(f"{layer.line} {layer.name} {layer.type} {layer.params.SerializeToString(deterministic=True)}")
print(google.protobuf.__version__, api_implementation.Type(), file=sys.stderr)
print(len(found), zlib.crc32("".join(found).encode()))
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        nets = [str(path) for path in sorted((ROOT / "fixtures").rglob("*.prototxt")) if "solver" not in path.name]
        answers = set()
        for version in VERSIONS:
            home = folder / version.replace(">=", "").replace("<", "")
            if not home.exists():
                venv.create(home, with_pip=True)
                subprocess.run([home / "bin" / "pip", "install", "-q", version, "numpy"], check=True)
            for implementation in ("upb", "python"):
                environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation, "PYTHONPATH": str(ROOT)}
                command = [home / "bin" / "python", "-W", "error", "-c", READ, *nets]
                answers.add(subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout)
        print("the same everywhere" if len(answers) == 1 else f"different: {answers}")
        return len(answers) != 1


if __name__ == "__main__":
    sys.exit(main())
