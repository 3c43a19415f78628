"""Which inputs a report lists, when not all: what changed first, then what is still wrong, then some of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from monitoring.gate.evaluated import Compared, InputLine


def chosen_lines(compared: Sequence[Compared], most: int) -> list[InputLine]:
    """At most `most` inputs, in the order of their sets.

    Losses before gains before inputs that both get wrong before the rest; among equals by a lot that is fixed by the
    input's id, so that no set and no end of a set is preferred.
    """
    lines = [line for one in compared for line in one.lines]
    if len(lines) <= most:
        return lines
    order = sorted(
        range(len(lines)), key=lambda i: (_importance(lines[i]), xxhash.xxh64_intdigest(lines[i].id.encode()))
    )
    return [lines[i] for i in sorted(order[:most])]


def _importance(line: InputLine) -> int:
    if line.change < 0:
        return 0
    if line.change > 0:
        return 1
    return 2 if line.champion_good < 1 else 3
