"""The parent's side of the story's traffic: starts the process, gives orders, keeps every account."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deploy.demo.background import Account, Order
from deploy.errors import CommandError

END_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Everything that was sent, and what became of it: sent = answered + failed once nothing is under way."""

    sent: int
    answered: int
    failed: int
    by_client: dict[str, int]
    by_version: dict[str, tuple[int, int]]  # {version: (answered, right)}
    reasons: list[str]

    @property
    def balanced(self) -> bool:
        """Whether every request has its fate."""
        return self.sent == self.answered + self.failed


class Traffic:
    """The background process.

    Args:
        http: "host:port" of inference.
        grpc: The same over gRPC; None leaves that client out.
        run: First part of every request's id.
        seed: Of the pictures.
        order: What to send at first.
        log: File for what the process complains of.
        environ: Of the process; None inherits.
    """

    def __init__(
        self,
        http: str,
        grpc: str | None,
        *,
        run: str,
        seed: int,
        order: Order,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "deploy.demo.background", http, "--run", run, "--seed", str(seed)]
        command += ["--grpc", grpc] if grpc else []
        with log.open("ab") as complaints:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=None if environ is None else dict(environ),
            )
        self._log = log
        self._accounts: list[Account] = []
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="demo-accounts", daemon=True)
        self._reader.start()
        self._order = order
        self._send()

    @property
    def order(self) -> Order:
        """What is sent now."""
        return self._order

    def change(self, **fields: str | bool | float) -> None:
        """Send something else from now on.

        Raises:
            CommandError: the process has ended.
        """
        self._order = replace(self._order, **fields)  # type: ignore[arg-type]
        self._send()

    def await_first(self, timeout_s: float = 120.0) -> None:
        """Wait until requests are answered.

        Raises:
            CommandError: none is, or the process has ended.
        """
        deadline = time.monotonic() + timeout_s
        while not self.totals().answered:
            if self._process.poll() is not None or time.monotonic() > deadline:
                reasons = self.totals().reasons[:3]
                raise CommandError("the demo's clients get no answer", "; ".join(reasons) or f"see {self._log.name}")
            time.sleep(0.1)

    def accounts(self) -> list[Account]:
        """All so far, oldest first."""
        with self._lock:
            return list(self._accounts)

    def totals(self) -> Totals:
        """All accounts together."""
        return add_up(self.accounts())

    def close(self) -> Totals:
        """Let it finish what is under way; the last account is complete.

        Raises:
            CommandError: it ended with an error: then nothing it said counts.
        """
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it is gone; its exit status says why
                self._process.stdin.close()
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._let_go()
        if status != 0:
            raise CommandError(f"the demo's clients ended with {status}", f"their complaints: {self._log.name}")
        return self.totals()

    def kill(self) -> None:
        """End it at once; for when the story broke off."""
        self._process.kill()
        self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        self._reader.join(5.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _send(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(self._order)) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise CommandError("the demo's clients have ended", f"their complaints: {self._log.name}") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            account = Account(**json.loads(line))
            with self._lock:
                self._accounts.append(account)


def add_up(accounts: list[Account]) -> Totals:
    """Several accounts as one."""
    clients: dict[str, int] = {}
    versions: dict[str, tuple[int, int]] = {}
    reasons: list[str] = []
    for account in accounts:
        for name, count in account.by_client.items():
            clients[name] = clients.get(name, 0) + count
        for version, (answered, right) in account.answers.items():
            before = versions.get(version, (0, 0))
            versions[version] = (before[0] + answered, before[1] + right)
        reasons += account.reasons
    return Totals(
        sent=sum(a.sent for a in accounts),
        answered=sum(n for n, _ in versions.values()),
        failed=sum(a.failed for a in accounts),
        by_client=clients,
        by_version=versions,
        reasons=reasons[:100],
    )
