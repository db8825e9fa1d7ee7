"""Which source code shapes a figure: what changes there makes old fits and lists stale, and nothing else does.

A component's figures are shaped by its own module and by all that this imports, and by what every run goes
through.  So an edited model is fitted anew, while those that do not know it are kept.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from llm4rec import __file__ as _package

_ROOT = Path(_package).parent
#: Rooms through which every system goes, with all that they import.
_ROOMS = ("data", "metrics", "features", "llm", "pipeline")
#: The modules of this room that fit and ask; what else it holds reads, writes and judges what they made.
_HERE = ("diagnosis", "explaining", "predict", "protocol", "resources", "run", "systems", "tables")


@cache
def fingerprint(modules: frozenset[str]) -> str:
    """Return a hash of the source that shapes the figures of components defined in ``modules`` (their full names)."""
    files = {path for file in reached({*modules, *(f"llm4rec.{room}" for room in _ROOMS)}, _ROOT) for path in _with_data(file)}
    files |= {_ROOT / "experiment" / f"{name}.py" for name in _HERE}
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def reached(modules: Iterable[str], root: Path) -> set[Path]:
    """Return the source files of the package at ``root`` that these modules are and import, wherever an import stands.

    The packages above a module count, because importing it runs them.
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        if parts[0] != root.name:
            continue
        for depth in range(1, len(parts) + 1):
            file = _file(parts[1:depth], root)
            if file is not None and file not in found:
                found.add(file)
                waiting += _imports(file)
    return found


def _file(parts: list[str], root: Path) -> Path | None:
    place = root.joinpath(*parts)
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py")) if parts else (place / "__init__.py",)
    return next((path for path in candidates if path.is_file()), None)


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Return the names that a file imports; ``from a import b`` gives ``a.b``, which may be a module."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def _with_data(file: Path) -> Iterator[Path]:
    """Yield a source file and, of a package, what else lies in it: templates, tables, scripts for other interpreters."""
    yield file
    if file.name != "__init__.py":
        return
    folders = [file.parent]
    while folders:
        folder = folders.pop()
        for path in folder.iterdir():
            if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
                folders.append(path)
            elif path.is_file() and (folder != file.parent or path.suffix != ".py"):
                yield path
