"""From `hardcase.yaml` and `HARDCASE__SECTION__KEY` to `Settings`; errors name the key, its place and the nearest key.

YAML is composed into nodes first, so that each value keeps its line and column; overrides keep the name of their
variable. Validation is pydantic's; only the telling is ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError

from deploy.errors import SettingsError
from deploy.settings import Settings

DEFAULT_FILE = "hardcase.yaml"
ENV_PREFIX = "HARDCASE__"
SECRET_KEYS = frozenset({"sha256", "token_sha256"})  # values of these are never shown

Key: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings together with where they come from.

    Attributes:
        file: The file that was read; None when defaults were taken.
        base: Folder that a relative `state_dir` is relative to.
    """

    settings: Settings
    file: Path | None
    base: Path

    @property
    def state(self) -> Path:
        """The state folder as an absolute path."""
        return (self.base / self.settings.state_dir).absolute()


def load_settings(
    file: Path | None, environ: Mapping[str, str], folder: Path, beneath: Mapping[str, Any] | None = None
) -> Loaded:
    """Read the settings.

    Args:
        file: Named file, which must exist; None takes `hardcase.yaml` of `folder` when there is one.
        environ: Where overrides come from.
        folder: The working folder.
        beneath: Sections and keys that take the place of the defaults.

    Raises:
        SettingsError: every problem, one a line.
    """
    if file is None and (folder / DEFAULT_FILE).is_file():
        file = folder / DEFAULT_FILE
    text = ""
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SettingsError([f"{file}: cannot be read: {reason}"]) from None
    settings = parse_settings(text, name=str(file or DEFAULT_FILE), environ=environ, beneath=beneath)
    return Loaded(settings=settings, file=file, base=file.absolute().parent if file else folder.absolute())


def parse_settings(
    text: str,
    *,
    name: str = DEFAULT_FILE,
    environ: Mapping[str, str] | None = None,
    beneath: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from YAML text and overrides, over what lies `beneath` them.

    Raises:
        SettingsError: every problem, one a line: `file:line:column: key: what is wrong`.
    """
    places: dict[Key, str] = {}
    data = _read_yaml(text, name, places)
    _apply_environment(data, environ or {}, places)
    try:
        return Settings.model_validate(_over(beneath or {}, data))
    except ValidationError as error:
        raise SettingsError([_tell(dict(e), places, name) for e in error.errors()]) from None


def _over(beneath: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; a key that `above` has is as it says there."""
    made = {**beneath, **above}
    for name in beneath.keys() & above.keys():
        if isinstance(beneath[name], Mapping) and isinstance(above[name], Mapping):
            made[name] = _over(beneath[name], above[name])
    return made


def _read_yaml(text: str, name: str, places: dict[Key, str]) -> dict[str, Any]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        _note_places(node, (), name, places)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SettingsError([f"{at}: not valid YAML: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise SettingsError([f"{name}: not valid YAML: {error}"]) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise SettingsError([f"{places[()]}: the file must hold keys and values, such as `serving:`"])
    return data


def _note_places(node: yaml.Node, key: Key, name: str, places: dict[Key, str]) -> None:
    """Remember where each key stands; a key that occurs twice is an error, not a silent override."""
    places.setdefault(key, f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}")
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            here = (*key, str(key_node.value))
            at = f"{name}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
            if here in places:
                raise SettingsError([f"{at}: {dotted(here)}: given twice; the first is at {places[here]}"])
            places[here] = at
            _note_places(value, here, name, places)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _note_places(item, (*key, i), name, places)


def _apply_environment(data: dict[str, Any], environ: Mapping[str, str], places: dict[Key, str]) -> None:
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        key = tuple(part.lower() for part in variable[len(ENV_PREFIX) :].split("__"))
        place = f"environment variable {variable}"
        raw = environ[variable]
        if not all(key):
            raise SettingsError([f"{place}: expected {ENV_PREFIX}SECTION__KEY"])
        try:
            value = yaml.safe_load(raw) if raw != "" else None
        except yaml.YAMLError:
            value = raw
        target = data
        for depth, part in enumerate(key[:-1], start=1):
            if not isinstance(target.get(part), dict):
                target[part] = {}
                places[key[:depth]] = place
            target = target[part]
        target[key[-1]] = value
        places[key] = place


def dotted(key: Key) -> str:
    """`("serving", "auth", "keys", 0)` to `serving.auth.keys[0]`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def all_keys(model: type[BaseModel] = Settings, prefix: Key = ()) -> Iterator[Key]:
    """Every key of the settings, sections included, in order."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        inner = section_of(field.annotation)
        if inner is not None:
            yield from all_keys(inner, (*prefix, name))


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, directly or as the items of a list."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _tell(error: dict[str, Any], places: Mapping[Key, str], name: str) -> str:
    key: Key = tuple(error["loc"])
    while key and key not in places and isinstance(key[-1], str) and error["type"] != "missing":
        key = key[:-1]  # pydantic adds names of union members and validators that are no keys
    place = next((places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in places), name)
    if error["type"] == "extra_forbidden":
        return f"{place}: {dotted(key)}: unknown key{_nearest(key)}"
    if error["type"] == "missing":
        return f"{place}: {dotted(key)}: is missing"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    secret = SECRET_KEYS.intersection(key)  # somebody may have written the token itself
    shown = "" if secret or isinstance(error["input"], BaseModel | dict) else f", got {error['input']!r:.60}"
    return f"{place}: {dotted(key) or 'settings'}: {message}{shown}"


def _nearest(key: Key) -> str:
    plain = tuple(part for part in key if isinstance(part, str))
    section, wrong = plain[:-1], plain[-1]
    known = list(all_keys())
    siblings = [str(k[-1]) for k in known if k[:-1] == section]
    elsewhere = [dotted(k) for k in known if k[-1] == wrong]
    if elsewhere:
        return f"; did you mean {' or '.join(repr(k) for k in elsewhere)}?"
    match = difflib.get_close_matches(wrong, siblings, n=1, cutoff=0.6)
    if match:
        return f"; did you mean '{dotted((*section, match[0]))}'?"
    close = difflib.get_close_matches(wrong, [str(k[-1]) for k in known], n=1, cutoff=0.75)
    if close:
        return "; did you mean " + " or ".join(repr(dotted(k)) for k in known if k[-1] == close[0]) + "?"
    return f"; keys here are {', '.join(siblings)}" if siblings else ""
