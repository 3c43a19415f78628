"""Frozen records ↔ JSON: strict both ways, so that another version reads what one version wrote, or refuses it clearly.

The reader accepts exactly the declared fields: an unknown, missing or mistyped one is named with its path. Numbers must
be finite. Bytes written are canonical (sorted keys, no spaces), because digests are taken of them.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")
_ONLY_WHEN_SET = "only_when_set"
ONLY_WHEN_SET = MappingProxyType({_ONLY_WHEN_SET: True})
"""Metadata of an optional field that came later: left out while it is None, so that older releases still read it."""


def dumps(record: Any) -> bytes:
    """Encode a dataclass as canonical JSON.

    Example:
        >>> from export.contracts.manifest import Tolerance
        >>> dumps(Tolerance(absolute=0.5, relative=0.0))
        b'{"absolute":0.5,"relative":0.0}'
    """
    plain = to_plain(record)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def loads(cls: type[T], data: bytes | str) -> T:
    """Decode `data` as a `cls`.

    Raises:
        ValueError: not JSON, or a field is unknown, missing or of a wrong type; the text holds the field's path.
    """
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{cls.__name__}: not valid JSON: {error}") from None
    return from_plain(cls, plain)


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, enums to their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {f.name: to_plain(v) for f, v in fields if v is not None or not f.metadata.get(_ONLY_WHEN_SET)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


def from_plain(cls: type[T], plain: Any, path: str = "") -> T:
    """The inverse of `to_plain` for a dataclass type."""
    return typing.cast(T, _read(cls, plain, path or cls.__name__))


def _read(kind: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return _read(inner[0], value, path)
        _expect(type(value) in inner, path, " or ".join(a.__name__ for a in inner), value)
        return value
    if origin is tuple:
        return _read_tuple(args, value, path)
    if origin is dict:
        _expect(isinstance(value, dict), path, "an object", value)
        return {k: _read(args[1], v, f"{path}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(str(m.value) for m in kind)
            raise ValueError(f"{path}: {value!r} is not one of {allowed}") from None
    if kind is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), path, "a number", value)
        return float(value)
    _expect(isinstance(value, kind) and not (kind is int and isinstance(value, bool)), path, kind.__name__, value)
    return value


def _read_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list), path, "a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_read(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    _expect(len(value) == len(args), path, f"a list of {len(args)}", value)
    return tuple(_read(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))


def _read_dataclass(kind: Any, value: Any, path: str) -> Any:
    _expect(isinstance(value, dict), path, "an object", value)
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ValueError(f"{path}: unknown field '{unknown[0]}'")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise ValueError(f"{path}: field '{name}' is missing")
    try:
        return kind(**{n: _read(hints[n], v, f"{path}.{n}") for n, v in value.items()})
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(path) else f"{path}: {text}") from None


def _expect(holds: bool, path: str, expected: str, value: Any) -> None:
    if not holds:
        shown = repr(value)
        raise ValueError(f"{path}: expected {expected}, got {shown[:80]}")
