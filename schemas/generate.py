"""Makes NAME_pb2.py and its types, NAME_pb2.pyi, from each NAME.proto: `python -m schemas.generate`, with grpcio-tools 1.60 (protoc 25).

Newer compilers write a version check into what they generate, which refuses every runtime older than the compiler (and, in
time, newer ones): code of protoc 25 has none and runs on protobuf 4.25 up to 7.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TYPES_HEAD = '''"""The generated messages, to a type checker."""

# mypy: disable-error-code="type-arg"
# ruff: noqa

'''


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    for schema in sorted((root / "schemas").glob("*.proto")):
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={root}", f"--pyi_out={root}"]
        subprocess.run([*command, f"schemas/{schema.name}"], check=True)
        types = schema.with_name(f"{schema.stem}_pb2.pyi")
        types.write_text(_TYPES_HEAD + types.read_text())
        generated = schema.with_name(f"{schema.stem}_pb2.py")
        if "ValidateProtobufRuntimeVersion" in generated.read_text():
            sys.exit("this protoc writes a runtime check; use grpcio-tools 1.60 (protoc 25)")


if __name__ == "__main__":
    main()
