"""CVAT for images, XML 1.1 (`annotations.xml`, `images/`): boxes, and tags for classes of the whole picture.

Read with expat, piece by piece; a document type is refused, and with it every entity that a file could define.

References:
    https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from export.contracts.task import TaskKind
from monitoring.exchange.coco import one_or_many
from monitoring.exchange.contracts import (
    Box,
    ExchangeError,
    Header,
    Item,
    Labelled,
    Problem,
    Progress,
    Read,
    Truth,
    make_box,
)
from monitoring.exchange.shared import EVERY, case_in, new_text, one_file, write_picture

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
_SHAPES = frozenset({"polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton"})
_PIECE = 1 << 16


class Cvat:
    """See the module's text."""

    name = "cvat"
    title = "CVAT for images 1.1"
    tasks = frozenset({TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL, TaskKind.DETECTION})

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """One `<image>` a case."""
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        count = 0
        with new_text(folder / "annotations.xml") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n')
            kinds = "".join(_kind(name) for name in header.classes)
            task = "<id>0</id><name>hardcase</name><mode>annotation</mode>"  # some readers look for a task
            file.write(f"    <task>{task}<labels>{kinds}</labels></task>\n  </meta>\n")
            for count, item in enumerate(items, 1):
                write_picture(item, images)
                file.write(_image(count - 1, item))
                if count % EVERY == 0:
                    progress(EVERY)
            file.write("</annotations>\n")
        progress(count % EVERY)
        return count

    def read(self, path: Path) -> Iterator[Read]:
        """Pictures without a box or a tag are passed over: the file does not say whether anybody looked."""
        file = one_file(path, "annotations.xml", "*.xml")
        reader = _Reader(name=file.name)
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield from reader.feed(piece, last=False)
        yield from reader.feed(b"", last=True)
        if not reader.seen_root:
            raise ExchangeError(f"{file.name} has no <annotations>: it is another format")


def _attribute(text: str) -> str:
    """A value in quotes.

    Raises:
        ExchangeError: it holds a character that XML has no way to write.
    """
    found = _FORBIDDEN.search(text)
    if found is not None:
        raise ExchangeError(f"XML cannot carry the character U+{ord(found[0]):04X} of '{text[:40]!r}'")
    return quoteattr(text, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _kind(name: str) -> str:
    text = _attribute(name)[1:-1].replace("&quot;", '"')
    return f"<label><name>{text}</name><attributes></attributes></label>"


def _image(number: int, item: Item) -> str:
    size = f'width="{item.width}" height="{item.height}"'
    inner = []
    for box in (item.truth.boxes or ()) if item.truth is not None else ():
        corners = f'xtl="{box.x0!r}" ytl="{box.y0!r}" xbr="{box.x1!r}" ybr="{box.y1!r}"'
        inner.append(
            f'    <box label={_attribute(box.label)} source="manual" occluded="0" {corners} z_order="0"></box>\n'
        )
    if item.truth is not None and item.truth.boxes is None:
        inner = [f'    <tag label={_attribute(name)} source="manual"></tag>\n' for name in item.truth.names]
    return f'  <image id="{number}" name="{item.file}" {size}>\n{"".join(inner)}  </image>\n'


@dataclass(kw_only=True)
class _Reader:
    """Expat's events to labels and problems."""

    name: str
    seen_root: bool = False
    _out: list[Read] = field(default_factory=list)
    _image: Mapping[str, str] | None = None
    _line: int = 0
    _boxes: list[Box] = field(default_factory=list)
    _classes: list[str] = field(default_factory=list)
    _wrong: str = ""

    def __post_init__(self) -> None:
        self._parser = expat.ParserCreate(encoding=None)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, piece: bytes, *, last: bool) -> Iterator[Read]:
        """Parse on; gives what is complete."""
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            self._out.append(Problem(where=f"{self.name}:{error.lineno}", text=f"not well-formed: {error}"))
            done, self._out = self._out, []
            yield from done
            raise ExchangeError(f"{self.name} is not well-formed XML: line {error.lineno}") from None
        done, self._out = self._out, []
        yield from done

    def _doctype(self, *_: object) -> None:
        raise ExchangeError(f"{self.name} has a document type, which is refused")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "annotations":
            self.seen_root = True
        elif tag == "image":
            self._image, self._line = attributes, self._parser.CurrentLineNumber
            self._boxes, self._classes, self._wrong = [], [], ""
        elif self._image is None:
            return
        elif tag == "tag":
            self._classes.append(attributes.get("label", ""))
        elif tag == "box":
            self._box(attributes)
        elif tag in _SHAPES:
            self._wrong = self._wrong or f"a shape is a {tag}: only boxes are read"

    def _box(self, attributes: Mapping[str, str]) -> None:
        try:
            if float(attributes.get("rotation", "0")) % 360 != 0:
                raise ExchangeError("a box is turned")
            corners = [attributes[name] for name in ("xtl", "ytl", "xbr", "ybr")]
            self._boxes.append(make_box(corners, attributes["label"]))
        except KeyError as error:
            self._wrong = self._wrong or f"a box has no {error}"
        except ValueError as error:
            self._wrong = self._wrong or str(error)

    def _end(self, tag: str) -> None:
        if tag != "image" or self._image is None:
            return
        where = f"{self.name}:{self._line}"
        case = case_in(self._image.get("name"))
        if self._boxes and self._classes:
            self._wrong = self._wrong or "both boxes and tags"
        if case is None:
            self._out.append(Problem(where=where, text=f"'{self._image.get('name', '')[:100]}' names no case"))
        elif self._wrong:
            self._out.append(Problem(where=where, text=f"case {case}: {self._wrong}"))
        elif self._boxes:
            self._out.append(Labelled(case=case, truth=Truth(boxes=tuple(self._boxes)), where=where))
        elif self._classes:
            self._out.append(Labelled(case=case, truth=one_or_many(self._classes), where=where))
        self._image = None
