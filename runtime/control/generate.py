"""Makes the gRPC stubs beside ``control.proto``: ``python runtime/control/generate.py``.

They are imported as ``ithaca.runtime.control.control_pb2`` and ``..._pb2_grpc``; so the compiler
is shown the proto under the path that it has as a part of the package.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = Path("ithaca", "runtime", "control")
STUBS = ("control_pb2.py", "control_pb2.pyi", "control_pb2_grpc.py")


def generate(folder: Path = HERE) -> list[Path]:
    """Compiles ``folder/control.proto`` into three files beside it, and returns their paths.

    Each is put in place whole, so that a process importing the old ones never sees half a file.

    Raises:
        RuntimeError: the compiler refused the proto; it has said why on stderr.
    """
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory(prefix=".stubs-", dir=folder) as name:
        root = Path(name)
        target = root / PACKAGE
        target.mkdir(parents=True)
        (target / "control.proto").write_bytes((folder / "control.proto").read_bytes())
        flags = [f"--{kind}_out={root}" for kind in ("python", "pyi", "grpc_python")]
        status = protoc.main(["protoc", f"-I{root}", *flags, str(target / "control.proto")])
        if status != 0:
            raise RuntimeError(f"protoc could not compile {folder / 'control.proto'}")
        for stub in STUBS:
            os.replace(target / stub, folder / stub)
    return [folder / stub for stub in STUBS]


def main() -> int:
    """Generates the stubs; exit code 1 with one message when that fails."""
    try:
        generate()
    except (OSError, ImportError, RuntimeError) as error:
        print(f"no gRPC stubs were made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
