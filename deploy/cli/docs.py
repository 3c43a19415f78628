"""Writes `docs/cli.md` from the command tree: `python -m deploy.cli.docs`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

DOCS_FILE = "docs/cli.md"

_INTRO = """# The `hardcase` command

<!-- Written by `python -m deploy.cli.docs` from deploy/cli/; edit there. -->

Every command reads `hardcase.yaml` of the working folder (see [settings.md](settings.md)); `--settings FILE` before the
command names another one. `--json`, where a command has it, prints one JSON document for programs, errors included:
`{"error": ..., "hint": ..., "exit_code": ...}`. `--debug` before the command shows the traceback of an error.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | failed; for `doctor`, `records verify`, `demo`: something is not as it should be |
| 2 | wrong arguments or settings |
| 3 | not found: model, version, case, file |
| 4 | refused by a rule: parity, admission, registry, `bench --fail-over` |
| 5 | nothing is running there |
| 6 | port or state folder in use |
| 7 | undecided: the gate cannot tell with the labels there are |
| 130, 143 | interrupted (Ctrl-C, SIGTERM) |

Commands that ask serving send `Authorization: Bearer $HARDCASE_TOKEN`, those that ask the monitor
`$HARDCASE_MONITOR_TOKEN`, when the variable is set.

A signature for `hardcase import model.pt --signature signature.json`:

```json
{
  "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
  "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3], "role": "logits"}]
}
```
"""


def markdown() -> str:
    """The page."""
    from deploy.cli.main import make_app

    return "\n".join([_INTRO, *_group(typer.main.get_command(make_app()), "hardcase")]).rstrip() + "\n"


def commands() -> list[str]:
    """Every command that can be called, such as `hardcase registry list`."""
    from deploy.cli.main import make_app

    return [path for path, _ in _leaves(typer.main.get_command(make_app()), "hardcase")]


def with_default() -> list[str]:
    """Groups of commands that can be called without the name of one, such as `hardcase gate`."""
    from deploy.cli.main import make_app

    groups = getattr(typer.main.get_command(make_app()), "commands", {})
    return [f"hardcase {name}" for name, group in groups.items() if hasattr(group, "default_command")]


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from _leaves(child, f"{path} {name}")


def _group(root: Any, path: str) -> Iterator[str]:
    for name, command in _leaves(root, path):
        yield f"## `{name}`\n"
        yield _text(command.help or "") + "\n"
        rows = [_parameter(p) for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
        if rows:
            yield "| argument | what it is |"
            yield "| --- | --- |"
            yield from rows
            yield ""


def _text(help_text: str) -> str:
    """The help, with its examples as blocks."""
    out = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("Example: "):
            out.append("```bash\n" + paragraph.removeprefix("Example: ").strip() + "\n```")
        else:
            out.append(" ".join(paragraph.split()))
    return "\n\n".join(out)


def _parameter(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    names = ", ".join((*parameter.opts, *parameter.secondary_opts)) if is_option else (parameter.name or "").upper()
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    default = parameter.default
    if is_option and default not in (None, False, True, "", ()) and not callable(default):
        text += f" Default: `{default}`."
    if not is_option and not parameter.required:
        text += " Optional."
    return f"| `{names}` | {text} |"


def main(root: Path) -> None:
    """Write the page below `root`."""
    (root / DOCS_FILE).write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[2])
