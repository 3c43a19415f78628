"""The source as syntax trees: what the architecture tests ask questions about."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("export", "serving", "monitoring", "deploy")


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module: `module` is absolute; `lazy` means inside a function; `typing_only` under TYPE_CHECKING."""

    module: str
    line: int
    lazy: bool
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """One Python file of the packages."""

    path: Path

    @property
    def name(self) -> str:
        """Path from the root, with `/`."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return _text(self.path)

    @property
    def tree(self) -> ast.Module:
        return _tree(self.path)

    def imports(self) -> Iterator[Import]:
        yield from _imports(self.tree, self.name, lazy=False, typing_only=False)


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    gc.disable()  # a tree is a great many objects that stay: collections that look at them take as long as parsing
    try:
        return ast.parse(_text(path), filename=str(path))
    finally:
        gc.freeze()
        gc.enable()


def sources(*roots: str) -> list[Source]:
    """All Python files of the given folders (default: the four packages), sorted."""
    found = [p for root in roots or PACKAGES for p in (ROOT / root).rglob("*.py")]
    return [Source(p) for p in sorted(found) if "__pycache__" not in p.parts and "node_modules" not in p.parts]


def _imports(node: ast.AST, name: str, *, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module=alias.name, line=child.lineno, lazy=lazy, typing_only=typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                parts = name.removesuffix(".py").split("/")[: -child.level]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            for alias in child.names:
                yield Import(module=f"{base}.{alias.name}", line=child.lineno, lazy=lazy, typing_only=typing_only)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, name, lazy=True, typing_only=typing_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _imports(ast.Module(body=[inner], type_ignores=[]), name, lazy=lazy, typing_only=True)
            for inner in child.orelse:
                yield from _imports(ast.Module(body=[inner], type_ignores=[]), name, lazy=lazy, typing_only=typing_only)
        else:
            yield from _imports(child, name, lazy=lazy, typing_only=typing_only)


def calls_at_import(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that run when the module is imported: outside function bodies, decorators and defaults included."""
    yield from _calls(tree)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "__name__ == '__main__'":
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            runs_now = [*child.decorator_list, *child.args.defaults, *(d for d in child.args.kw_defaults if d)]
            for part in runs_now:
                yield from _calls(ast.Expression(body=part))
            continue
        if isinstance(child, ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _calls(child)


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` of a Name or Attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted_name(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""
