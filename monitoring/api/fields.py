"""Building blocks of what the API asks and answers: names, times, shares, and the two kinds of model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)

from export.contracts.errors import InvalidRequest
from export.contracts.manifest import NAME_PATTERN

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)


def _in_range(value: object) -> object:
    """Only RFC 3339 text with a zone, in the range that 64-bit nanoseconds hold."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or len(value) < 20 or value[10:11] not in "Tt":
        raise ValueError("must be an RFC 3339 time with a zone, as 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an RFC 3339 time with a zone, as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None or not EARLIEST <= moment < LATEST:
        raise ValueError("must have a zone and lie between the years 1970 and 2261")
    return moment.astimezone(UTC)


def to_text(moment: datetime) -> str:
    """UTC with microseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_ns(moment: datetime) -> int:
    """The inverse of `from_ns`."""
    return round(moment.timestamp() * 1e6) * 1000


def from_ns(time_ns: int) -> datetime:
    """Nanoseconds since the epoch as a time; below a microsecond is dropped."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).replace(microsecond=time_ns // 1000 % 1_000_000)


Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN.pattern}$")]
Time = Annotated[AwareDatetime, PlainSerializer(to_text, return_type=str, when_used="json")]
AskedTime = Annotated[AwareDatetime, BeforeValidator(_in_range)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Label = str | int | float | bool | list[Any] | dict[str, Any] | None


class Answer(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Asked(BaseModel):
    """Base of what is asked: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AskedModel = TypeVar("AskedModel", bound=Asked)


def checked(kind: type[AskedModel], given: dict[str, str]) -> AskedModel:
    """`given` as a `kind`.

    Raises:
        InvalidRequest: names the field.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{place[:64]}: {first['msg'].removeprefix('Value error, ')}") from None
