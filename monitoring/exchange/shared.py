"""What several formats share: case ids in file names, pictures, JSON that is written piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from monitoring.exchange.contracts import ExchangeError, Item, Labelled, Problem, Read

CASE = re.compile(r"^[0-9a-f]{16}$")
_IN_NAME = re.compile(r"(?<![0-9a-f])([0-9a-f]{16})(?![0-9a-f])")
EVERY = 200  # items between two words about progress
MAX_FILE_BYTES = 1 << 30


def case_in(*names: Any) -> str | None:
    """The case id in the first of the names that has one: itself, or in a file's name.

    Example:
        >>> case_in(None, "upload/3f-00ff00ff00ff00ff.png"), case_in("cat.png")
        ('00ff00ff00ff00ff', None)
    """
    for name in names:
        if isinstance(name, str):
            if CASE.match(name):
                return name
            found = _IN_NAME.search(PurePosixPath(name.replace("\\", "/")).name)
            if found is not None:
                return found[1]
    return None


def write_picture(item: Item, folder: Path) -> None:
    """Write an item's picture, where it has one, under its name."""
    if item.picture is not None:
        (folder / item.file).write_bytes(item.picture)


def compact(value: Any) -> str:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file whose newlines are as written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file


def load_json(path: Path) -> Any:
    """A JSON document.

    Raises:
        ExchangeError: it is none; the text has the line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ExchangeError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return json.loads(path.read_text("utf-8-sig"), parse_constant=_refuse)
    except FileNotFoundError:
        raise ExchangeError(f"there is no file {path.name}") from None
    except UnicodeDecodeError:
        raise ExchangeError(f"{path.name} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ExchangeError(f"{path.name} is not JSON: line {error.lineno}, {error.msg}") from None
    except RecursionError:
        raise ExchangeError(f"{path.name} is nested too deeply") from None


def as_list(document: Any, name: str, file: str) -> list[Any]:
    """A list in a document.

    Raises:
        ExchangeError: there is none.
    """
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, list):
        raise ExchangeError(f"{file} has no list '{name}': it is another format")
    return value


def one_file(path: Path, *patterns: str) -> Path:
    """The file itself, or the one in a folder that fits the first pattern that any fits.

    Raises:
        ExchangeError: none, or several.
    """
    if path.is_file():
        return path
    for pattern in patterns:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ExchangeError(f"several files fit: {', '.join(p.name for p in found[:5])}; name one of them")
    raise ExchangeError(f"{path.name} holds no {patterns[0]}")


def without_repetitions(read: Iterable[Read]) -> tuple[list[Labelled], list[Problem]]:
    """Labels, each case once, and problems; two different labels of one case are a problem."""
    labels: dict[str, Labelled] = {}
    problems: list[Problem] = []
    for one in read:
        if isinstance(one, Problem):
            problems.append(one)
        elif one.case not in labels:
            labels[one.case] = one
        elif labels[one.case].truth != one.truth:
            text = f"case {one.case} has another label in {labels[one.case].where}"
            problems.append(Problem(where=one.where, text=text))
    return list(labels.values()), problems


def _refuse(name: str) -> Any:
    raise ExchangeError(f"{name} is not JSON")
