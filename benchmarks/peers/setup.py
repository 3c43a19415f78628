"""Environments of the peers under `.venvs/`, from pinned requirement files.

    python -m benchmarks.peers.setup [NAME ...]

An environment whose requirement file has not changed since it was made is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
STAMP = "requirements.sha256"
# The Python backend in PyTriton's wheel is bound to the interpreter that Debian 12 ships: with another build of 3.11
# it stops with "_recursion_count".
DEBIAN_PYTHON = Path("/usr/bin/python3.11")


class SetupFailed(Exception):
    """An environment could not be made; the text says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One environment.

    Attributes:
        python: Interpreter that it is made from.
        hint: What to do when that interpreter is not there.
    """

    name: str
    python: Path
    hint: str = ""


PEERS = (
    Peer(name="mosec", python=Path(sys.executable)),
    Peer(name="litserve", python=Path(sys.executable)),
    Peer(
        name="pytriton",
        python=DEBIAN_PYTHON,
        hint="PyTriton's wheel needs the distribution's own Python 3.11 (Debian 12: packages python3 and python3-venv)",
    ),
)


# Not peers, but other sides of tests; made when they are named.
CLIENTS = (
    Peer(name="kserve", python=Path(sys.executable)),
    Peer(name="label-studio", python=Path(sys.executable)),  # the real server, for its tests
    Peer(name="mlflow", python=Path(sys.executable)),  # likewise
    Peer(name="wandb", python=Path(sys.executable)),  # the library, for the test of `export.training.wandb_logger`
)


def make(peer: Peer, root: Path = ROOT) -> bool:
    """Make one environment, or leave it when it is up to date.

    Returns:
        Whether anything was done.

    Raises:
        SetupFailed: the interpreter is missing, or pip failed.
    """
    requirements = REQUIREMENTS / f"{peer.name}.txt"
    folder = root / ".venvs" / peer.name
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return False
    if not peer.python.exists():
        raise SetupFailed(f"{peer.name}: {peer.python} is not there. {peer.hint}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    _run(peer, [str(peer.python), "-m", "venv", str(folder)])
    _run(peer, [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(requirements)])
    stamp.write_text(digest, encoding="ascii")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments that are named, or those of all servers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.setup", description=__doc__.splitlines()[0])
    names = [peer.name for peer in PEERS + CLIENTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all servers")
    wanted = parser.parse_args(arguments).names or [peer.name for peer in PEERS]
    if unknown := set(wanted) - set(names):
        parser.error(f"no peer named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    failed = 0
    for peer in PEERS + CLIENTS:
        if peer.name in wanted:
            try:
                print(f"{peer.name}: {'made' if make(peer) else 'up to date'}", flush=True)
            except SetupFailed as error:
                print(error, file=sys.stderr)
                failed = 1
    return failed


def _run(peer: Peer, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"{peer.name}: {' '.join(command[1:4])} failed:\n{(done.stdout + done.stderr)[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
