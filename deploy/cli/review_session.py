"""Reviewing in a terminal: a case in words, one key, the next case."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.monitor_client import MonitorClient

AHEAD = 5
HELP = "[c]orrect  [w]rong  [u]nclear  [d]ismiss  [l]abel  [s]kip  [z] undo  [q]uit"
VERDICTS = {"c": "correct", "w": "wrong", "u": "unclear", "d": "dismiss"}


class ReviewSession:
    """Takes cases from the queue and asks about each.

    Args:
        client: Of the monitor.
        which: Of which cases, as in `POST /api/review/lease`.
        out: Where cases are shown.
        key: Reads one key.
        line: Reads a line.
    """

    def __init__(
        self,
        client: MonitorClient,
        which: Mapping[str, Any],
        out: Console,
        key: Callable[[], str] = typer.getchar,
        line: Callable[[str], str] = typer.prompt,
    ) -> None:
        self._client, self._which, self._out = client, dict(which), out
        self._key, self._line = key, line
        self._acts: list[int] = []
        self._skipped: set[str] = set()
        self.decided = 0

    def run(self) -> None:
        """Until nothing waits or the reviewer quits; what is still leased is given back."""
        held: list[dict[str, Any]] = []
        try:
            while True:
                if not held:
                    got = self._client.post("/api/review/lease", self._which | {"count": AHEAD + len(self._skipped)})
                    held = [case for case in got["cases"] if case["id"] not in self._skipped]
                    if not held:
                        self._out.print("Nothing waits for you.")
                        return
                self._out.print(words(held[0]))
                self._out.print(HELP)
                answer = self._key().lower()
                if answer in ("q", "\x04"):
                    return
                if answer == "z":
                    self._undo()
                    held = []
                elif answer == "s":
                    self._skipped.add(held.pop(0)["id"])
                elif self._decide(held[0], answer):
                    held.pop(0)
        finally:
            mine = sorted({case["id"] for case in held} | self._skipped)[:50]
            if mine:
                self._client.post("/api/review/release", {"cases": mine})
            self._out.print(f"{self.decided} decided.")

    def _decide(self, case: dict[str, Any], answer: str) -> bool:
        said: dict[str, Any] = {"case": case["id"], "edition": case["standing"]["edition"]}
        if answer == "l":
            names = case["class_names"]
            given = self._line("label" if not names else f"label ({', '.join(names[:20])})").strip()
            if not given or (names and given not in names):
                self._out.print("That is none of the classes." if given else "No label.")
                return False
            said |= {"verdict": "label", "label": given}
        elif answer in VERDICTS:
            said["verdict"] = VERDICTS[answer]
        else:
            return False
        done = self._client.post("/api/review/decisions", {"key": uuid.uuid4().hex, "decisions": [said]})
        result = done["results"][0]
        if result["ok"]:
            self._acts.append(done["act"])
            self.decided += 1
            self._out.print(f"→ {result['standing']['state']}")
        else:
            self._out.print(f"Not done: {result['conflict']}")
        return True

    def _undo(self) -> None:
        if not self._acts:
            self._out.print("There is nothing to take back.")
            return
        done = self._client.post(f"/api/review/acts/{self._acts.pop()}/undo", {"key": uuid.uuid4().hex})
        self.decided -= done["changed"]
        self._out.print("Taken back." if done["changed"] else f"Not taken back: {', '.join(done['skipped'])}")


def words(case: Mapping[str, Any]) -> str:
    """A case for the terminal."""
    said = case["predicted_label"] if case["predicted_label"] is not None else case["predicted"]
    share = "" if case["p_wrong"] is None else f", P(wrong) {case['p_wrong']:.0%}"
    reasons = ", ".join(case["reasons"]).replace("_", " ")
    lines = [
        "",
        f"{case['model']} version {case['version']}  {case['record_id']}  {case['time']}",
        f"  answered  {said}{share}",
        f"  because   {reasons}",
    ]
    lines += [f"  tags      {case['tags']}"] if case.get("tags") else []
    lines += [f"  error     {case['error']}"] if case["error"] else []
    lines += [f"  picture   {case['picture']}"] if case["picture"] else []
    return "\n".join(lines)
