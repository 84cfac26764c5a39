"""The source tree as the structure tests see it: every module parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dsa110_contimg"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path

    @property
    def name(self) -> str:
        """Path below the package, as in ``api/app.py``."""
        return self.path.relative_to(PACKAGE).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def functions(self) -> Iterator[Function]:
        """Give every function and method."""
        yield from (node for node in self.nodes if isinstance(node, Function))

    def at(self, node: ast.AST) -> str:
        """Say where a node is, for a failure's message."""
        return f"{self.name}:{getattr(node, 'lineno', 0)} {getattr(node, 'name', '')}".rstrip()


def body_lines(function: Function) -> int:
    """Return the number of lines of a function, its docstring left out."""
    size = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    return size


def statement_lines(function: Function) -> int:
    """Return the number of lines between a function's signature and its end, docstring left out."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def documented_strings(tree: ast.AST) -> set[int]:
    """Return the ids of the constants that are docstrings."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr):
            found.add(id(node.body[0].value))
    return found


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
