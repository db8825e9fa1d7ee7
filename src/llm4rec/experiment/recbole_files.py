"""Where a RecBole user's configuration and atomic files lie, and how their values are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm4rec.core import SpecError

_BUILT_IN = "ml-100k"  # comes with RecBole; here it is a named set
_INTERVAL = re.compile(r"\s*([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])\s*")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # no types come with yaml
    """YAML as RecBole reads it: ``1e-3`` is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a configuration and a folder hold.

    Attributes:
        label: for messages.
        name: of the data set.
        config: the YAML's keys.
        set: a named set in place of files, or None.
        events, items, users: the atomic files, or None.
        columns: of the events file, without their types.
    """

    label: str
    name: str
    config: Mapping[str, Any]
    set: str | None
    events: Path | None
    items: Path | None
    users: Path | None
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """``[5,inf)``: None where there is no bound."""

    text: str
    low: float | None
    high: float | None
    open_low: bool


def interval(text: str, where: str) -> Interval:
    """Read RecBole's ``[a,b]``, ``[a,b)``, ``(a,b)``, ``(a,b]``; several joined by ``;`` are refused."""
    match = _INTERVAL.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        low, high = float(match[2]), float(match[3])
        if math.isnan(low) or math.isnan(high):
            raise ValueError
    except ValueError:
        raise SpecError(f"{text!r} is no interval", where=where, todo='write it as RecBole does: "[5,inf)"') from None
    finite = [None if abs(x) == float("inf") else x for x in (low, high)]
    return Interval(text, finite[0], finite[1], match[1] == "(")


# -- values, which YAML lets be anything ------------------------------------------------------
def as_table(value: Any, where: str) -> dict[str, Any]:
    """Return a table of keys."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{value!r} is no table of keys", where=where, todo="write it as RecBole 1.2 reads it: {key: value}")
    return {str(key): inner for key, inner in value.items()}


def as_whole(value: Any, where: str) -> int:
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not re.fullmatch(r"-?\d+(\.0+)?", str(value)):
        raise SpecError(f"{value!r} is no whole number", where=where)
    return int(float(value))


def as_numbers(value: Any, where: str) -> list[float]:
    """Return a list of finite numbers."""
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        raise SpecError(f"{value!r} is no list of numbers", where=where, todo="write it as RecBole does: [0.8, 0.1, 0.1]")
    return [float(x) for x in numbers]


def as_plain(value: Any, where: str) -> Any:
    """Return a value that a specification can hold: numbers, words, lists and tables of them, nothing in place of null."""
    if isinstance(value, Mapping):
        return {str(k): as_plain(v, f"{where}.{k}") for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [as_plain(v, where) for v in value if v is not None]
    if not isinstance(value, bool | int | float | str):
        raise SpecError(f"{value!r} is neither number nor word", where=where, todo="put it in quotes")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a RecBole configuration."""
    try:
        held = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read ({error})", where=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"is not YAML ({getattr(error, 'problem', None) or error})", where=f"{path}{line}") from None
    if held is None:
        held = {}
    if not isinstance(held, dict) or not all(isinstance(key, str) for key in held):
        raise SpecError("holds no table of keys", where=str(path))
    return held


def found(path: Path) -> Found:
    """Find the configuration and the files from either of them.

    Raises:
        SpecError: there is no configuration or events file, or there are several.
    """
    if path.is_dir():
        configs = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        if len(configs) > 1:
            raise SpecError(f"holds {len(configs)} YAML files", where=str(path), todo=f"name one: {configs[0].name}")
        config = read_yaml(configs[0]) if configs else {}
        return _files(path, config, (configs or [path])[0].name, None)
    if not path.exists():
        raise SpecError("no such file or folder", where=str(path), todo="name a RecBole YAML, or a folder of atomic files")
    config = read_yaml(path)
    name = config.get("dataset")
    if not isinstance(name, str):
        raise SpecError("names no dataset", where=str(path), todo="add 'dataset: NAME' and 'data_path: FOLDER'")
    roots = [path.parent, Path()]
    data_path = Path(str(config.get("data_path", "dataset/")))
    tried = [root / folder for root in roots for folder in (data_path / name, data_path, Path(name), Path())]
    for folder in tried:
        if (folder / f"{name}.inter").is_file():
            return _files(folder.absolute(), config, path.name, name)
    if name == _BUILT_IN:
        columns = ("user_id", "item_id", "rating", "timestamp")
        return Found(path.name, name, config, _BUILT_IN, None, None, None, columns)
    raise SpecError(f"{name}.inter is not found", where=str(path), todo=f"looked in {', '.join(map(str, tried[:3]))}, ...")


def _files(folder: Path, config: Mapping[str, Any], label: str, name: str | None) -> Found:
    events = sorted(folder.glob("*.inter")) if name is None else [folder / f"{name}.inter"]
    if name is None and len(events) > 1 and isinstance(config.get("dataset"), str):
        events = [e for e in events if e.stem == config["dataset"]]
    if len(events) != 1:
        todo = "name one in 'dataset'" if events else "a RecBole data set has a NAME.inter"
        raise SpecError(f"holds {len(events)} .inter files", where=str(folder), todo=todo)
    file = events[0].absolute()
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        columns = tuple(c.rpartition(":")[0] for c in lines.readline().rstrip("\r\n").split("\t"))
    others = [file.with_suffix(suffix) for suffix in (".item", ".user")]
    items, users = (other if other.is_file() else None for other in others)
    return Found(label, file.stem, config, None, file, items, users, columns)
