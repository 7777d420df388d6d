"""Makes caffe_pb2.py from caffe.proto: `python -m schemas.generate`, with grpcio-tools 1.60 (protoc 25) installed.

Newer compilers write a version check into what they generate, which refuses every runtime older than the compiler (and, in
time, newer ones): code of protoc 25 has none and runs on protobuf 4.25 up to 7.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={root}", "schemas/caffe.proto"], check=True)
    generated = root / "schemas" / "caffe_pb2.py"
    if "ValidateProtobufRuntimeVersion" in generated.read_text():
        sys.exit("this protoc writes a runtime check; use grpcio-tools 1.60 (protoc 25)")


if __name__ == "__main__":
    main()
