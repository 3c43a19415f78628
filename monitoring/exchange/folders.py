"""Image folders: a folder for each class, `unlabelled/` for the rest. Move the files, import the folder.

What a folder's name cannot hold is written as in a URL (%2F for a slash); so are a name's first dot and the spaces at
its ends, and the class that happens to be called "unlabelled".

Only names are read: never what is in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from export.contracts.task import TaskKind
from monitoring.exchange.contracts import ExchangeError, Header, Item, Labelled, Problem, Progress, Read, Truth
from monitoring.exchange.shared import EVERY, case_in

UNLABELLED = "unlabelled"
MAX_NAME = 255  # bytes of a file's name, on every file system that people use
_PLAIN = frozenset(" _-.()")
_TAKEN = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))})


class Folders:
    """See the module's text."""

    name = "folders"
    title = "Image folders"
    tasks = frozenset({TaskKind.CLASSIFICATION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """One picture a case; a case without a picture is an empty file, so that its label still has a place."""
        places: dict[str, Path] = {}
        taken = {UNLABELLED}

        def place_of(name: str) -> Path:
            if name not in places:
                made = folder_of(name)
                # File systems that do not tell "Cat" from "cat" must not make one class of two.
                made = made if made.lower() not in taken else _escape_first(made)
                taken.add(made.lower())
                places[name] = folder / made
                places[name].mkdir(parents=True, exist_ok=True)
            return places[name]

        for name in header.classes:
            place_of(name)
        (folder / UNLABELLED).mkdir(parents=True, exist_ok=True)
        count = 0
        for count, item in enumerate(items, 1):
            known = None if item.truth is None else item.truth.label
            place = folder / UNLABELLED if known is None else place_of(str(known))
            (place / item.file).write_bytes(item.picture or b"")
            if count % EVERY == 0:
                progress(EVERY)
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Every file one folder deep."""
        if not path.is_dir():
            raise ExchangeError(f"{path.name} is no folder")
        for place in sorted(path.iterdir()):
            if not place.is_dir() or place.name.startswith("."):
                continue
            for file in sorted(place.iterdir()):
                where = f"{place.name}/{file.name}"
                if file.name.startswith(".") or place.name == UNLABELLED:
                    continue
                case = case_in(file.name)
                if case is None:
                    yield Problem(where=where, text="its name names no case")
                else:
                    yield Labelled(case=case, truth=Truth(label=class_of(place.name)), where=where)


def folder_of(name: str) -> str:
    """The folder of a class.

    Raises:
        ExchangeError: its name is too long for a folder.

    Example:
        >>> folder_of("cats/dogs"), folder_of(".."), folder_of("unlabelled"), class_of(folder_of("50 %"))
        ('cats%2Fdogs', '%2E%2E', '%75nlabelled', '50 %')
    """
    last = len(name) - 1
    made = "".join(_spelled(c, i in (0, last)) for i, c in enumerate(name))
    if made.lower() == UNLABELLED or made.partition(".")[0].lower() in _TAKEN:
        made = _escape_first(made)
    if not made or len(made.encode()) > MAX_NAME:
        raise ExchangeError(f"the class '{name[:40]}' has no name that a folder can have")
    return made


def _escape_first(made: str) -> str:
    at = made[0] == "%"  # already spelled out: the next plain character is
    return made if at else f"%{ord(made[0]):02X}{made[1:]}"


def class_of(folder: str) -> str:
    """The class of a folder."""
    return unquote(folder)


def _spelled(character: str, at_an_end: bool) -> str:
    if character.isascii() and (character.isalnum() or (character in _PLAIN and not (at_an_end and character in " ."))):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())
