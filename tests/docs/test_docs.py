"""The docs say what is: generated pages are current, commands and links exist, blocks parse, words are explained."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from deploy.cli import docs as cli_docs
from deploy.settings_docs import DOCS_FILE, markdown
from deploy.settings_file import all_keys, dotted, parse_settings, section_of
from tests.support.source_tree import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BUILTINS = {
    "cd",
    "source",
    "git",
    "curl",
    "tail",
    "make",
    "printf",
    "python",
    "promtool",
    "amtool",
    "prometheus",
    "grafana",
    "wrk",
    "select",
    "strace",
    "sudo",
}
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


@cache
def known_commands() -> frozenset[str]:
    return frozenset([*cli_docs.commands(), *cli_docs.with_default()])


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def test_the_settings_page_is_current_and_has_every_key():
    text = (ROOT / DOCS_FILE).read_text()
    assert text == markdown(), "run: python -m deploy.settings_docs"
    text = text.replace("[0]", "")  # keys of list items
    for key in all_keys():
        assert f"`{dotted(key)}`" in text or f".{key[-1]}`" in text or f"## {dotted(key)}" in text, dotted(key)


def test_the_command_line_page_is_current_and_has_every_command():
    text = (ROOT / cli_docs.DOCS_FILE).read_text()
    assert text == cli_docs.markdown(), "run: python -m deploy.cli.docs"
    commands = cli_docs.commands()
    assert len(commands) > 20
    for command in commands:
        assert f"## `{command}`" in text
        section = text.split(f"## `{command}`")[1].split("\n## ")[0]
        assert "```bash" in section, f"{command} has no example"


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_that_exists(name: str):
    page = ROOT / name
    missing = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "#", "mailto:")):
            continue
        if not (page.parent / target.partition("#")[0]).exists():
            missing.append(target)
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_shell_block_exists(name: str):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = known_commands()
    wrong = []
    for block in blocks(ROOT / name, "bash", "sh", "shell"):
        for line in block.splitlines():
            for part in re.split(r"&&|\|(?!\|)|;", line):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if not words:
                    continue
                program = words[0].removeprefix(".venv/bin/")
                if program == "hardcase":
                    rest = [w for w in words[1:] if not w.startswith("-")]
                    known = any(" ".join(["hardcase", *rest[:n]]) in commands for n in (1, 2))
                    if not known and words[1:2] not in ([], ["--help"], ["--version"]):
                        wrong.append(line)
                elif program == "make":
                    named = next((w for w in words[1:] if "=" not in w), "help")
                    if named not in targets:
                        wrong.append(line)
                elif program == "python" and "-m" in words:
                    module = words[words.index("-m") + 1].replace(".", "/")
                    if not (ROOT / f"{module}.py").exists() and not (ROOT / module).is_dir() and "/" in module:
                        wrong.append(line)
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_every_block_parses_as_its_language(name: str):
    for block in blocks(ROOT / name, "python", "py"):
        if ">>>" not in block:
            ast.parse(block)
    for block in blocks(ROOT / name, "yaml"):
        yaml.safe_load(block)
    for block in blocks(ROOT / name, "json"):
        json.loads(block)
    for block in blocks(ROOT / name, "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_settings_named_in_prose_exist():
    keys = {dotted(k) for k in all_keys()}
    sections = {k.split(".")[0] for k in keys}
    unknown = []
    for page in PAGES:
        for name in re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.]+)`", page.read_text()):
            if (
                name not in keys
                and not name.endswith((".py", ".md", ".yaml", ".json", ".log"))
                and not _is_module(name)
            ):
                unknown.append(f"{page.name}: {name}")
    assert not unknown


def _is_module(name: str) -> bool:
    """`serving.pool` is a module and no setting."""
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists() or path.parent.with_suffix(".py").exists()


def test_overrides_named_in_prose_are_accepted():
    for page in PAGES:
        for variable in re.findall(r"\bHARDCASE__[A-Z_]+__[A-Z_]+", page.read_text()):
            if variable == "HARDCASE__SECTION__KEY":
                continue
            key = tuple(part.lower() for part in variable.removeprefix("HARDCASE__").split("__"))
            assert key in set(all_keys()), f"{page.name}: {variable}"


def test_the_settings_in_the_docs_are_accepted():
    for page in PAGES:
        for block in blocks(page, "yaml"):
            data = yaml.safe_load(block)
            if isinstance(data, dict) and set(data) <= {str(k[0]) for k in all_keys() if len(k) == 1}:
                parse_settings(block)


def test_the_glossary_is_in_order_and_explains_the_words_of_the_code():
    text = (ROOT / "docs/concepts.md").read_text().split("# Glossary")[1]
    words = re.findall(r"^\*\*(.+)\*\*$", text, re.MULTILINE)
    assert [w.lower() for w in words] == sorted(w.lower() for w in words)
    for word in (
        "champion",
        "challenger",
        "window",
        "signal",
        "case",
        "record",
        "segment",
        "replica",
        "pool",
        "golden case",
    ):
        assert word in words


def test_decisions_are_numbered_dated_pages_with_the_same_questions():
    numbers: dict[str, str] = {}
    for page in sorted((ROOT / "docs/decisions").glob("*.md")):
        match = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", page.name)
        assert match, page.name
        assert match[1] not in numbers, f"{page.name} and {numbers[match[1]]}"
        numbers[match[1]] = page.name
        text = page.read_text()
        assert re.search(r"20\d\d-\d\d-\d\d", text), f"{page.name} has no date"
        assert re.search(r"^(#+ |\*\*).*would change", text, re.MULTILINE | re.IGNORECASE), f"{page.name}: what would?"


def test_the_readme_opens_as_promised():
    text = (ROOT / "README.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# Hardcase"
    opening = "\n".join(lines[2:6])
    assert len([line for line in opening.splitlines() if line]) <= 4
    order = ["docs/images/", "make up", "make demo", "curl -s", "tritonclient", "Against the peers", "## Layout"]
    places = [text.index(word) for word in order]
    assert places == sorted(places)


def test_every_section_of_the_settings_is_a_chapter():
    text = (ROOT / DOCS_FILE).read_text()
    from deploy.settings import Settings

    for name, field in Settings.model_fields.items():
        if section_of(field.annotation) is not None:
            assert f"\n## {name}{'[]' if isinstance(field.default, tuple) else ''}\n" in text
