"""Compile the `.proto` files into `contract.binpb`, the form in which they are loaded. Needs grpcio-tools.

python -m serving.grpc.compile
"""

from __future__ import annotations

import sys
from pathlib import Path

from serving.grpc.messages import FILES

FOLDER = Path(__file__).parent
CONTRACT = "contract.binpb"


def compile_to(target: Path) -> None:
    """Write the descriptor set of all sources.

    Raises:
        RuntimeError: a source does not compile; the compiler has said why.
    """
    from grpc_tools import protoc

    status = protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={target}", *FILES])
    if status:
        raise RuntimeError("the .proto files do not compile")


if __name__ == "__main__":
    compile_to(FOLDER / CONTRACT)
    sys.exit(0)
