"""A PostgreSQL server of a test's own, which can be killed and started again."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.processes import free_ports


def _programs() -> Path | None:
    """Folder of initdb and pg_ctl: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@dataclass(frozen=True)
class Postgres:
    """A server that runs.

    Attributes:
        url: SQLAlchemy URL of its first database.
    """

    url: str
    folder: Path
    prefix: tuple[str, ...]
    control: str
    settings: str

    def start(self) -> None:
        self._call("-o", self.settings, "-l", f"{self.folder}/log", "-w", "start")

    def kill(self) -> None:
        """As a crash would: connections are cut, nothing is finished."""
        self._call("-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """URL of a new, empty database."""
        import sqlalchemy as sa

        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        engine.dispose()
        return self.url.rpartition("/")[0] + f"/{name}"

    def _call(self, *arguments: str) -> None:
        command = [*self.prefix, self.control, "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


@contextmanager
def postgres(also: str = "") -> Iterator[Postgres]:
    """An empty server on a free port; skips the test where there is no PostgreSQL.

    Args:
        also: Another address to listen on, for tests with several machines; its network is trusted.
    """
    programs = _programs()
    root = os.getuid() == 0
    known = {entry.pw_name for entry in pwd.getpwall()}
    if programs is None or (root and "postgres" not in known) or shutil.which("runuser") is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and, as root, its user 'postgres'")
    user = "postgres" if root else getpass.getuser()
    prefix = ("runuser", "-u", user, "--") if root else ()
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if root:
        shutil.chown(folder, user)
    initdb = [*prefix, str(programs / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "hardcase"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1{f',{also}' if also else ''} -c fsync=off"
    if also:
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {also}/24 trust\n")
    url = f"postgresql+psycopg://hardcase@127.0.0.1:{port}/postgres"
    made = Postgres(url, folder, prefix, str(programs / "pg_ctl"), settings)
    made.start()
    try:
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)
