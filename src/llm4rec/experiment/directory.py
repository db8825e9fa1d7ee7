"""A run directory: where everything lies, and how it is written so that nothing is half written."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from llm4rec.core import Dataset, RunError, Vocabulary
from llm4rec.core.columns import CASE, ITEM, METRIC, RANK, SCORE, SEED, STAGE, SYSTEM, USER, VALUE
from llm4rec.data import Log

#: Columns of the tables that each part holds and that the run's own tables put together.
TABLES: dict[str, dict[str, Any]] = {
    "lists": {
        SYSTEM: pl.String, SEED: pl.Int64, CASE: pl.Int64, STAGE: pl.String, RANK: pl.Int32, ITEM: pl.String, SCORE: pl.Float32,
    },
    "results": {SYSTEM: pl.String, SEED: pl.Int64, CASE: pl.Int64, METRIC: pl.String, VALUE: pl.Float64},
    "notes": {
        SYSTEM: pl.String, SEED: pl.Int64, CASE: pl.Int64, STAGE: pl.String,
        "failures": pl.List(pl.String),
        "dropped": pl.List(pl.Struct({ITEM: pl.String, "reason": pl.String})),
        "exchanges": pl.List(pl.Struct({"prompt": pl.String, "answer": pl.String, "failure": pl.String})),
        "trials": pl.List(pl.Struct({"items": pl.List(pl.String), "scores": pl.List(pl.Float64)})),
    },
    "profiles": {SYSTEM: pl.String, SEED: pl.Int64, CASE: pl.Int64, STAGE: pl.String, "profile": pl.String},
    "explanations": {
        SYSTEM: pl.String, SEED: pl.Int64, CASE: pl.Int64, RANK: pl.Int32, ITEM: pl.String, "sentence": pl.String,
        "claims": pl.List(pl.Struct({
            "kind": pl.String, ITEM: pl.String, "attribute": pl.String, "operator": pl.String, VALUE: pl.String,
            "count": pl.Int64, "span": pl.List(pl.Int64), "outcome": pl.String,
        })),
        "unsupported": pl.List(pl.Struct({"text": pl.String, "span": pl.List(pl.Int64)})), "fidelity": pl.Float64,
        "failure": pl.String, "drafts": pl.List(pl.String), "prompt": pl.String, "answer": pl.String,
    },
}  # fmt: skip


class RunDirectory:
    """Paths of one run, with atomic writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def store(self) -> Path:
        """The store of LLM calls."""
        return self.path / "llm.sqlite"

    def model(self, system: str, seed: int) -> Path:
        """Folder of a fitted component."""
        return self.path / "models" / system / str(seed)

    def part(self, system: str, seed: int) -> Path:
        """Folder of what one system made with one seed, until and after it is put together."""
        return self.path / "parts" / system / str(seed)

    def open(self) -> None:
        """Make the directory; raises ``RunError`` if it holds something else or cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {p.name for p in self.path.iterdir()}
            strangers = {n for n in names if not n.startswith(("llm.sqlite", "audit.json"))}
            if strangers and "run.lock" not in names and not names >= {"spec.toml", "summary.json", "cases.parquet"}:
                raise RunError(
                    f"holds other files ({', '.join(sorted(strangers)[:3])}) and no run",
                    where=str(self.path), todo="choose an empty or new directory with --out",
                )  # fmt: skip
            (self / "run.lock").touch()
        except OSError as error:
            raise RunError(f"cannot be written ({error.strerror})", where=str(self.path), todo="choose another --out") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process; a second run on it is refused."""
        with open(self / "run.lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError("another process is running here", where=str(self.path), todo="wait for it or stop it") from None
            yield

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a temporary path that becomes ``name`` (a file or folder) when the block ends well."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.path))
        try:
            temporary = scratch / target.name
            yield temporary
            if temporary.is_dir() and target.is_dir():
                shutil.rmtree(target)
            os.replace(temporary, target)
        except OSError as error:
            raise RunError(
                f"cannot write {name} ({error.strerror})", where=str(self.path), todo="make room or choose another --out"
            ) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def holds(self, *names: str) -> bool:
        """Is each of these files there, and whole as far as its ends show?"""
        return all(_is_whole(self / name) for name in names)

    def sweep(self) -> None:
        """Remove what a killed run left half written."""
        for scratch in self.path.glob(".writing-*"):
            shutil.rmtree(scratch, ignore_errors=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        with self.writing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Write a Parquet file atomically."""
        with self.writing(name) as temporary:
            table.write_parquet(temporary, compression="zstd")

    def read_json(self, name: str) -> Any:
        """Read a JSON file; ``RunError`` if it is not there or broken."""
        try:
            value = json.loads((self / name).read_text(encoding="utf-8"))
            if not isinstance(value, dict):
                raise ValueError("no JSON object")
            return value
        except FileNotFoundError:
            raise RunError(f"has no {name}", where=str(self.path), todo="is it the directory of a finished run?") from None
        except ValueError as error:
            raise RunError(f"{name} is broken ({error})", where=str(self.path), todo="run it again") from None

    def read_table(self, name: str) -> pl.DataFrame:
        """Read a Parquet file; ``RunError`` if it is not there or broken."""
        try:
            return pl.read_parquet(self / name)
        except FileNotFoundError:
            raise RunError(f"has no {name}", where=str(self.path), todo="is it the directory of a finished run?") from None
        except (pl.exceptions.PolarsError, OSError) as error:
            raise RunError(f"{name} is broken ({error})", where=str(self.path), todo="run it again") from None

    # -- the data set, so that a run serves without its source --------------------------------
    def write_dataset(self, dataset: Dataset) -> None:
        """Write the data set that the run was made on."""
        with self.writing("models/dataset") as folder:
            folder.mkdir()
            dataset.events.write_parquet(folder / "events.parquet", compression="zstd")
            ids = {USER: pl.Series("id", dataset.users.ids, pl.String), ITEM: pl.Series("id", dataset.items.ids, pl.String)}
            dataset.user_table.with_columns(ids[USER]).write_parquet(folder / "users.parquet", compression="zstd")
            dataset.item_table.with_columns(ids[ITEM]).write_parquet(folder / "items.parquet", compression="zstd")
            facts = {"name": dataset.name, "behaviors": dataset.behaviors, "clock": dataset.clock}
            (folder / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n")
            if isinstance(dataset, Log):
                dataset.hidden.write_parquet(folder / "hidden.parquet", compression="zstd")

    def read_dataset(self) -> Log:
        """Read what ``write_dataset`` wrote."""
        users, items = self.read_table("models/dataset/users.parquet"), self.read_table("models/dataset/items.parquet")
        facts = self.read_json("models/dataset/dataset.json")
        return Log(
            name=facts["name"],
            users=Vocabulary(users["id"], kind="user"),
            items=Vocabulary(items["id"], kind="item"),
            events=self.read_table("models/dataset/events.parquet"),
            item_table=items.drop("id"),
            user_table=users.drop("id"),
            behaviors=tuple(facts["behaviors"]),
            clock=facts["clock"],
            hidden=self.read_table("models/dataset/hidden.parquet"),
        )


def _is_whole(path: Path) -> bool:
    """Does a file hold what its kind must: a table its marks at both ends, JSON an object, any other a byte?"""
    try:
        with path.open("rb") as file:
            if path.suffix == ".json":
                return isinstance(json.load(file), dict)
            head = file.read(4)
            if path.suffix != ".parquet":
                return bool(head)
            file.seek(-4, os.SEEK_END)
            return head == file.read() == b"PAR1"
    except (OSError, ValueError):
        return False
