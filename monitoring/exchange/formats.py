"""All formats by name."""

from __future__ import annotations

from monitoring.exchange.coco import Coco
from monitoring.exchange.contracts import ExchangeError, Format
from monitoring.exchange.crowd import MechanicalTurk, Toloka
from monitoring.exchange.csv_file import Csv
from monitoring.exchange.cvat import Cvat
from monitoring.exchange.datumaro import Datumaro
from monitoring.exchange.folders import Folders
from monitoring.exchange.jsonl import JsonLines
from monitoring.exchange.labelme import LabelMe
from monitoring.exchange.scalabel import Scalabel

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Coco(),
        Csv(),
        Cvat(),
        Datumaro(),
        Folders(),
        JsonLines(),
        LabelMe(),
        MechanicalTurk(),
        Scalabel(),
        Toloka(),
    )
}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        ExchangeError: there is none.
    """
    if name not in FORMATS:
        raise ExchangeError(f"there is no format '{name}'; there are {', '.join(FORMATS)}")
    return FORMATS[name]
