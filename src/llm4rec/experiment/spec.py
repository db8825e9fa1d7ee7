"""The specification of an experiment: a TOML file, validated, with errors that point at the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError

from llm4rec.core import Config, SpecError, did_you_mean
from llm4rec.data import DataConfig, SplitConfig
from llm4rec.experiment.catalog import CATALOG, Entry
from llm4rec.experiment.like import LIKE, followed, inherited
from llm4rec.experiment.sections import PREDICTED, RANDOM, Contamination, Experiment, Protocol, Tune
from llm4rec.features.encoders import EncoderConfig
from llm4rec.llm import BudgetConfig, LLMConfig
from llm4rec.metrics import PREDICTION
from llm4rec.pipeline import PipelineConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: A folder beside those of the systems.
_RESERVED = "dataset"


class Part(Config):
    """A component by its catalogue name, with its parameters."""

    component: str
    """Name in the catalogue."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters, defaults filled in."""

    @property
    def entry(self) -> Entry:
        """The catalogue's entry."""
        return CATALOG[self.component]

    @property
    def config(self) -> Config:
        """The component's validated config."""
        return self.entry.component.Config.model_validate(self.params)  # type: ignore[no-any-return]

    def references(self, kind: str) -> set[str]:
        """Names of the ``[llm.*]`` or ``[encoder.*]`` tables that the parameters refer to."""
        found: set[str] = set()

        def visit(value: Any) -> None:
            if isinstance(value, Mapping):
                if isinstance(value.get(kind), str):
                    found.add(value[kind])
                for inner in value.values():
                    visit(inner)

        visit(self.params)
        return found


class System(Config):
    """``[systems.NAME]``: one row of the leaderboard, a component or a pipeline of them."""

    label: str = ""
    """Name in tables."""
    note: str = ""
    """One sentence for the report."""
    like: str = Field("", exclude=True)
    """The system that this one is but for what its own table says."""
    changes: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """What that was."""
    against: str = ""
    """The system that this one is planned to be tested against: the same but for what is studied."""
    control: bool = False
    """A control (shuffled texts, random vectors): expected to lose."""
    sampled: bool = False
    """Run on the seeded sample of cases only; so are all systems with a language model."""
    augment: tuple[Part, ...] = ()
    """Augmenters, in order: what they add is known to the system's own components."""
    part: Part | None = None
    """The component, for a system of one."""
    retrieve: tuple[str, ...] = ()
    """Systems that find the candidates, for a pipeline."""
    pipeline: PipelineConfig = Field(default_factory=lambda: PipelineConfig.model_validate({}))
    """How the pipeline's stages work together."""
    rank: tuple[Part, ...] = ()
    """Rankers, in order."""
    choose: Part | None = None
    """Who chooses, for each request, which one of the systems in ``retrieve`` answers it; their lists are fused without it."""
    explain: Part | None = None
    """The explainer."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All components that the system itself names (not those of systems that it retrieves with)."""
        return tuple(p for p in (*self.augment, self.part, self.choose, *self.rank, self.explain) if p is not None)

    @property
    def uses_llm(self) -> bool:
        """Does one of the system's own components ask a language model?"""
        return any(p.references("llm") for p in self.parts)

    @property
    def draws(self) -> bool:
        """Does the pipeline choose weights on validation cases that chance draws?"""
        return "auto" in self.pipeline.shares or (self.pipeline.fusion_weights == "auto" and len(self.retrieve) > 1)


class Spec(Config):
    """A whole experiment."""

    experiment: Experiment
    data: DataConfig
    split: SplitConfig = SplitConfig()
    protocol: Protocol = Protocol()
    budget: BudgetConfig = BudgetConfig()
    contamination: Contamination = Contamination.model_validate({})
    llm: dict[str, LLMConfig] = Field(default_factory=dict)
    encoder: dict[str, EncoderConfig] = Field(default_factory=dict)
    tune: Tune | None = None
    systems: dict[str, System]

    def with_params(self, name: str, table: Mapping[str, Any]) -> Spec:
        """Return the specification with other parameters of a system's component or pipeline, and of what is like it."""
        system = self.systems[name]
        changed = (
            {"pipeline": PipelineConfig.model_validate(table)}
            if system.part is None
            else {"part": Part(component=system.part.component, params=dict(table))}
        )
        spec = self.model_copy(update={"systems": self.systems | {name: system.model_copy(update=changed)}})
        for other, like in self.systems.items():
            if like.like == name and "component" not in like.changes:
                own = like.pipeline.model_dump(mode="json") if like.part is None else like.part.params
                spec = spec.with_params(other, followed(table, own, like.changes))
        return spec

    def dump(self) -> str:
        """Return the resolved specification as TOML; ``read_spec`` reads it back."""
        tables = self.model_dump(mode="json", exclude_none=True)
        tables["systems"] = {name: _fold(system) for name, system in self.systems.items()}
        return tomli_w.dumps(_without_none(tables))


# -- reading ------------------------------------------------------------------------------
_SYSTEM_KEYS = set(System.model_fields) - {"part", "pipeline", "changes"}


def read_spec(path: Path) -> Spec:
    """Read and validate a specification; ``SpecError`` names the file, the key and the mend."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors put a mark first
    except FileNotFoundError:
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.toml"))) if path.parent.is_dir() else ""
        raise SpecError("no such file", where=str(path), todo=near or "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read ({error})", where=str(path)) from None
    return parse_spec(text, where=str(path), folder=path.parent)


def parse_spec(text: str, *, where: str = "spec", folder: Path | None = None) -> Spec:
    """Validate a specification given as text; paths in it are relative to ``folder``."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"is not TOML: {error}", where=where) from None
    for key in ("experiment", "data", "systems"):
        if not isinstance(tables.get(key), dict) or not tables[key]:
            raise SpecError(f"the table [{key}] is missing or empty", where=where, todo=f"add [{key}]")
    tables = dict(tables)
    given = tables["systems"]
    whole = inherited(given, where)
    tables["systems"] = {name: _unfold(whole[name], given[name], f"{where}: systems.{name}", folder) for name in given}
    asked = tables.get("protocol")
    if isinstance(asked, dict) and asked.get("task") in PREDICTED:
        metrics = validated(Protocol, asked, f"{where}: protocol", folder).metrics
        tables["experiment"] = {"metrics": metrics, "primary": metrics[0], **tables["experiment"]}
    spec: Spec = validated(Spec, tables, where, folder)
    _check_metrics(spec, where)
    _check_mask(spec, where)
    _check_names(spec, where)
    return spec


def tune_options(spec: Spec, options: Mapping[str, Any]) -> Spec:
    """Return the specification with fields of ``[tune]`` replaced, as the command line gives them."""
    table = {} if spec.tune is None else spec.tune.model_dump(mode="json")
    if {"trials", "seconds"} & set(options):
        table = {k: v for k, v in table.items() if k not in ("trials", "seconds")}  # one budget takes the other's place
    return spec.model_copy(update={"tune": validated(Tune, table | dict(options), "tune", None)})


def _unfold(table: Any, given: Any, where: str, folder: Path | None) -> dict[str, Any]:
    """Turn a flat ``[systems.NAME]`` table into the fields of :class:`System`; ``given`` is what itself says of it."""
    if not isinstance(table, dict):
        raise SpecError("must be a table", where=where)
    if "peer" in table and not {"component", "retrieve"} & set(table):
        table = {"component": "peer", **table}  # a model of another library, for short
    own: dict[str, Any] = {k: v for k, v in table.items() if k in _SYSTEM_KEYS}
    if LIKE in table:
        own["changes"] = {k: v for k, v in given.items() if k not in _SYSTEM_KEYS}
    rest = {k: v for k, v in table.items() if k not in _SYSTEM_KEYS}
    if "component" in table and "retrieve" in table:
        raise SpecError(
            "has both 'component' and 'retrieve'", where=where, todo="a system is either one component or a pipeline"
        )
    if "augment" in own:
        own["augment"] = _parts(own["augment"], f"{where}.augment", folder)
    if "component" in table:
        for key in ("rank", "choose", "explain"):
            if key in own:
                raise SpecError(f"a single component has no {key!r}", where=where, todo="name it in 'retrieve' of a pipeline")
        return {**own, "part": _part(rest, where, folder)}
    if "retrieve" not in table:
        raise SpecError("needs 'component' or 'retrieve'", where=where)
    own["rank"] = _parts(own.get("rank", []), f"{where}.rank", folder)
    if "choose" in own:
        own["choose"] = _part(own["choose"], f"{where}.choose", folder)
    if "explain" in own:
        own["explain"] = _part(own["explain"], f"{where}.explain", folder)
    return {**own, "pipeline": validated(PipelineConfig, rest, where, folder, extra=_SYSTEM_KEYS | {"component"})}


def _parts(tables: Any, where: str, folder: Path | None) -> list[Part]:
    return [_part(table, where, folder) for table in (tables if isinstance(tables, list) else [tables])]


def _part(table: Any, where: str, folder: Path | None) -> Part:
    if not isinstance(table, dict) or not isinstance(table.get("component"), str):
        raise SpecError("needs a 'component' by name", where=where)
    name = table["component"]
    if name not in CATALOG:
        raise SpecError(f"unknown component {name!r}", where=f"{where}.component", todo=did_you_mean(name, CATALOG))
    given = {k: v for k, v in table.items() if k != "component"}
    extra = _SYSTEM_KEYS - {"rank", "choose", "explain", "retrieve"}
    config = validated(CATALOG[name].component.Config, given, where, folder, extra=extra)
    return Part(component=name, params=config.model_dump(mode="json"))


def _fold(system: System) -> dict[str, Any]:
    """Undo ``_unfold``."""

    def flat(part: Part) -> dict[str, Any]:
        return {"component": part.component, **part.params}

    table: dict[str, Any] = {k: getattr(system, k) for k in ("label", "note", "against", "control", "sampled")}
    if system.augment:
        table["augment"] = [flat(p) for p in system.augment]
    if system.part is not None:
        return table | flat(system.part)
    table |= {"retrieve": list(system.retrieve), **system.pipeline.model_dump(mode="json")}
    table["rank"] = [flat(p) for p in system.rank]
    further = {"choose": system.choose, "explain": system.explain}
    return table | {key: flat(part) for key, part in further.items() if part is not None}


def _without_none(value: Any) -> Any:
    """TOML has no null: a key that is absent has its default, which is what null was."""
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, (list, tuple)) else value


def _check_metrics(spec: Spec, where: str) -> None:
    """Check that the metrics are those of the task."""
    task, experiment = spec.protocol.task, spec.experiment
    sought = None if spec.tune is None else spec.tune.metric
    if task == "ranking":
        if sought in PREDICTION:
            raise SpecError(f"{sought!r} is no metric of lists", where=f"{where}: tune.metric", todo="take one such as ndcg@10")
        if wrong := sorted({*experiment.metrics, experiment.primary} & set(PREDICTION)):
            todo = "set protocol.task to 'rating' or 'click'"
            raise SpecError(f"{wrong[0]!r} is no metric of lists", where=f"{where}: experiment", todo=todo)
        return
    if sought is not None and sought not in spec.protocol.metrics:
        todo = f"take one of {', '.join(spec.protocol.metrics)}"
        raise SpecError(f"{sought!r} is no metric of the task {task!r}", where=f"{where}: tune.metric", todo=todo)
    able = [m for m in spec.protocol.metrics if m != "auc"]
    if experiment.primary not in able:
        what = f"{experiment.primary!r} cannot be the primary metric of the task {task!r}, which is tested over users"
        raise SpecError(what, where=f"{where}: experiment.primary", todo=f"take one of {', '.join(able)}")
    if experiment.metrics != spec.protocol.metrics:
        what = f"the task {task!r} is measured by {', '.join(spec.protocol.metrics)}"
        raise SpecError(what, where=f"{where}: experiment.metrics", todo="leave the key out")


def _check_mask(spec: Spec, where: str) -> None:
    """Check that the mask does not hide what the split keeps as truth."""
    protocol, split = spec.protocol, spec.split
    hides = protocol.mask == "seen" or (protocol.mask == "history" and split.max_history is None)
    if split.repeats == "keep" and hides and protocol.task == "ranking" and protocol.candidates is None:
        what = f"with mask = {protocol.mask!r} no list may show the repeated items that repeats = 'keep' asks for"
        raise SpecError(what, where=f"{where}: split.repeats", todo='set protocol.mask = "none"')


def _check_names(spec: Spec, where: str) -> None:
    """Check everything that is a reference from one table to another."""
    answers = "retrieve" if spec.protocol.task == "ranking" else "predict"
    labels = [system.label for system in spec.systems.values()]
    for name, system in spec.systems.items():
        at = f"{where}: systems.{name}"
        if system.label and labels.count(system.label) > 1:
            raise SpecError(f"several systems are labelled {system.label!r}", where=f"{at}.label", todo="give each its own")
        if not _NAME.fullmatch(name) or name == _RESERVED:
            rule = f"a system's name holds letters, digits, '.', '_' and '-' only, at most 100, and is not {_RESERVED!r}"
            raise SpecError(rule, where=at)
        verbs = {
            "augment": system.augment, answers: (system.part,), "choose": (system.choose,), "rank": system.rank,
            "explain": (system.explain,),
        }  # fmt: skip
        for verb, parts in verbs.items():
            for part in parts:
                if part is not None and not hasattr(part.entry.component, verb):
                    able = ", ".join(n for n, e in CATALOG.items() if hasattr(e.component, verb))
                    raise SpecError(f"{part.component} cannot {verb}", where=at, todo=f"those that can: {able}")
        if answers == "predict" and (system.part is None or system.augment):
            what = f"the task {spec.protocol.task!r} is answered by single components, without augmenters"
            raise SpecError(what, where=at, todo="name a component that predicts")
        if system.part is None and not system.retrieve:
            raise SpecError("needs at least one system to retrieve with", where=f"{at}.retrieve")
        for kind, tables in (("llm", spec.llm), ("encoder", spec.encoder)):
            for part in system.parts:
                for wanted in part.references(kind) - set(tables):
                    raise SpecError(
                        f"{part.component} refers to {kind} {wanted!r}, which has no table [{kind}.{wanted}]",
                        where=at, todo=did_you_mean(wanted, tables),
                    )  # fmt: skip
        if len(set(system.retrieve)) < len(system.retrieve):
            raise SpecError("names a system twice", where=f"{at}.retrieve", todo="name it once, and give it more weight")
        for wanted in system.retrieve:
            if wanted not in spec.systems:
                raise SpecError(
                    f"retrieves with {wanted!r}, which is no system", where=at, todo=did_you_mean(wanted, spec.systems)
                )
        if system.against and system.against not in set(spec.systems) - {name}:
            what = "is tested against itself" if system.against == name else f"{system.against!r} is no system"
            raise SpecError(what, where=f"{at}.against", todo=did_you_mean(system.against, set(spec.systems) - {name}))
    for wanted in set(spec.contamination.llm) - set(spec.llm):
        todo = did_you_mean(wanted, spec.llm)
        raise SpecError(f"there is no table [llm.{wanted}]", where=f"{where}: contamination.llm", todo=todo)
    for wanted in set(spec.tune.space if spec.tune is not None else ()) - set(spec.systems):
        todo = did_you_mean(wanted, spec.systems)
        raise SpecError(f"{wanted!r} is no system", where=f"{where}: tune.space", todo=todo)
    sources = spec.protocol.candidates.sources if spec.protocol.candidates is not None else ()
    for source in set(sources) - set(spec.systems) - {RANDOM}:
        todo = did_you_mean(source, [RANDOM, *spec.systems])
        raise SpecError(f"{source!r} is no system", where=f"{where}: protocol.candidates.sources", todo=todo)
    order(spec, where)


def order(spec: Spec, where: str = "spec") -> list[str]:
    """Return the systems so that each comes after those that it retrieves with, and after the one that it is like."""
    done: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise SpecError(f"retrieves with itself ({' -> '.join((*above, name))})", where=f"{where}: systems.{name}")
        system = spec.systems[name]
        for inner in (*system.retrieve, *([system.like] if system.like else ())):
            visit(inner, (*above, name))
        if name not in done:
            done.append(name)

    for name in spec.systems:
        visit(name, ())
    return done


def validated(model: type[BaseModel], table: Any, where: str, folder: Path | None, *, extra: Iterable[str] = ()) -> Any:
    """Validate a table, whose paths are relative to a folder; the first thing that is wrong becomes one line."""
    try:
        return model.model_validate(table, context={"folder": folder})
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(x) for x in first["loc"] if not str(x).startswith(("function-", "literal["))]
        key = ".".join(location)
        at = f"{where}: {key}" if ":" not in where else f"{where}.{key}" if key else where
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            known = set(_fields_at(model, location[:-1])) | set(extra if len(location) == 1 else ())
            raise SpecError(f"unknown key{more}", where=at, todo=did_you_mean(location[-1], known)) from None
        message = first["msg"].removeprefix("Value error, ")
        # What stands in a table of a model is never repeated: it might be a key in the wrong place.
        quiet = first["type"] == "missing" or location[:1] in (["llm"], ["encoder"]) or message.endswith("?")
        given = "" if quiet else f", not {first['input']!r}"[:80]
        raise SpecError(f"{message}{given}{more}", where=at) from None


def _fields_at(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    """Return the keys that are known at a path into a model."""
    for step in path:
        field = model.model_fields.get(step)
        if field is None:
            continue  # the free name of a table such as [llm.NAME]
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if inner:
            model = inner[0]
    return model.model_fields
