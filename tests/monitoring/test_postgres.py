"""The same log ends up the same in PostgreSQL as in SQLite, byte for byte."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.cycle import make_loop
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain


def _programs() -> Path | None:
    """Folder of initdb and pg_ctl: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of an empty PostgreSQL server of our own."""
    programs = _programs()
    root = os.getuid() == 0
    known = {entry.pw_name for entry in pwd.getpwall()}
    if programs is None or (root and "postgres" not in known) or shutil.which("runuser") is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and, as root, its user 'postgres'")
    user = "postgres" if root else getpass.getuser()
    prefix = ["runuser", "-u", user, "--"] if root else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if root:
        shutil.chown(folder, user)
    data, control = str(folder / "data"), str(programs / "pg_ctl")

    def call(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    call(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "hardcase")
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(control, "-D", data, "-o", settings, "-l", f"{folder}/log", "-w", "start")
    yield f"postgresql+psycopg://hardcase@127.0.0.1:{port}/postgres"
    call(control, "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_holds_what_sqlite_holds(server: str, tmp_path: Path) -> None:
    w.day(tmp_path / "records", seconds=40, rate=8, shift_from=20, seed=3)
    catalogue = w.catalogue(tmp_path / "reference")
    snapshots = []
    for url in (f"sqlite:///{tmp_path / 'monitor.db'}", server):
        store = Store(url)
        loop = make_loop(w.options(tmp_path, batch_bytes=40_000), store, catalogue)
        drain(loop)
        assert loop.progress.errors == 0
        assert len(store.cases(limit=3).cases) == 3
        assert store.records("3-5-1")
        snapshots.append(w.snapshot(store))
        store.close()
    assert len(snapshots[0]["cases"]) > 20
    for table in snapshots[0]:
        assert snapshots[0][table] == snapshots[1][table], table
