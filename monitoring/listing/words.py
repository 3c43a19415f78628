"""Text columns as codes, and finding text in a million short strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FEW = 2_000  # hits up to which a loop over `bytes.find` is quicker than looking at every byte


class Words:
    """Distinct texts with a code each, in the order of their first appearance. Code 0 is the empty text."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}
        self._folded: list[str] = [""]

    def __len__(self) -> int:
        """How many."""
        return len(self.texts)

    def codes(self, texts: Iterable[str | None]) -> list[int]:
        """The code of each text; new texts get one."""
        known = self._codes
        found = []
        for text in texts:
            code = known.get(text or "")
            if code is None:
                code = known[text or ""] = len(self.texts)
                self.texts.append(text or "")
            found.append(code)
        return found

    def code(self, text: str) -> int:
        """Its code; -1 when no case ever had it."""
        return self._codes.get(text, -1)

    def table(self, fits: Callable[[str], bool]) -> Bools:
        """For each code, whether its text, in lower case, fits."""
        while len(self._folded) < len(self.texts):
            self._folded.append(self.texts[len(self._folded)].casefold())
        return np.fromiter((fits(text) for text in self._folded), dtype=np.bool_, count=len(self._folded))


class Names:
    """One short text a row, in lower case, rows only added: a million of them are searched within milliseconds."""

    def __init__(self) -> None:
        self._memory = bytearray()  # searched in place, and the same bytes as an array:
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._starts = np.zeros(1, np.int64)  # of each row, and where the next one would start
        self.rows = 0

    def add(self, texts: Iterable[str]) -> None:
        """Append rows."""
        pieces = [_folded(text) + b"\n" for text in texts]
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        end = int(self._starts[self.rows])
        size, rows = end + int(lengths.sum()), self.rows + len(pieces)
        if size > len(self._memory):
            self._memory = self._memory[:end] + bytearray(max(size, end * 3 // 2) - end)
            self._bytes = np.frombuffer(self._memory, np.uint8)
        if rows + 1 > len(self._starts):
            self._starts = np.concatenate([self._starts[: self.rows + 1], np.zeros(max(rows, rows // 2), np.int64)])
        self._bytes[end:size] = np.frombuffer(b"".join(pieces), np.uint8)
        self._starts[self.rows + 1 : rows + 1] = end + np.cumsum(lengths)
        self.rows = rows

    def having(self, text: str, *, at_start: bool = False) -> Ints:
        """Rows that have this text, or that start with it, ascending."""
        wanted = text.casefold().encode("utf-8", "replace")
        if not wanted or b"\n" in wanted:
            return np.arange(self.rows if not wanted else 0, dtype=np.int64)
        places = self._places(wanted)
        rows = np.searchsorted(self._starts[: self.rows + 1], places, side="right") - 1
        if at_start:
            rows = rows[places == self._starts[rows]]
        found = np.zeros(self.rows, np.bool_)
        found[rows] = True
        return np.flatnonzero(found)

    def _places(self, wanted: bytes) -> Ints:
        end = int(self._starts[self.rows])
        found: list[int] = []
        at = self._memory.find(wanted, 0, end)
        while at >= 0 and len(found) <= FEW:
            found.append(at)
            at = self._memory.find(wanted, at + 1, end)
        if at < 0:
            return np.array(found, np.int64)
        # Very many: keep the places where the first byte stands, then of these those where the next one does.
        whole = self._bytes[:end]
        places = np.flatnonzero(whole[: end - len(wanted) + 1] == wanted[0])
        for offset in range(1, len(wanted)):
            places = places[whole[places + offset] == wanted[offset]]
        return np.asarray(places, dtype=np.int64)

    def write(self, rows: Ints, texts: Iterable[str]) -> None:
        """Put the texts of some rows, which were blanked, back in their places."""
        for row, text in zip(rows.tolist(), texts, strict=True):
            self._place(row)[:] = np.frombuffer(_folded(text), np.uint8)

    def blank(self, rows: Ints) -> None:
        """Overwrite the texts of some rows, so that what was deleted is nowhere in memory."""
        for row in rows.tolist():
            self._place(row)[:] = 0

    def _place(self, row: int) -> npt.NDArray[np.uint8]:
        return self._bytes[int(self._starts[row]) : int(self._starts[row + 1]) - 1]


def _folded(text: str) -> bytes:
    return text.casefold().replace("\n", " ").encode("utf-8", "replace")
