"""Which parameters of a system are searched, in which ranges, and which values are tried next."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from llm4rec.core import Choice, Config, Space, SpecError, Uniform, Whole, did_you_mean
from llm4rec.experiment.spec import Spec, System
from llm4rec.pipeline import PipelineConfig

Sampler = Literal["tpe", "random"]
Params = Mapping[str, Any]

#: Draws before a space counts as used up; from the second number on they are made at random.
_ATTEMPTS, _GUIDED = 60, 10
_DIGITS = 4
_RANGE = {"low", "high", "log"}
#: Weights of the retrievers of a pipeline after the first, whose weight is 1.
_WEIGHT = Uniform(0.1, 10.0, log=True)


@dataclass(frozen=True)
class Search:
    """The search space of one system.

    Keys are fields of its component's config, or of its pipeline; ``item_init.scale`` is a field
    within a field, ``fusion_weights.1`` an entry of a list, counted from 0.

    Attributes:
        config: class that says which values go together.
        own: all parameters as the specification has them.
        ranges: what is drawn.
        fixed: what is not, and in every trial but the first has this value.
    """

    config: type[Config]
    own: Params
    ranges: Mapping[str, Space]
    fixed: Params = field(default_factory=dict)

    def own_value(self, key: str) -> Any:
        """Return a parameter as the specification has it."""
        return _get(self.own, key)

    def with_params(self, params: Params) -> dict[str, Any]:
        """Return all parameters with some replaced, as JSON values; ``ValueError`` if they do not go together."""
        table: Any = json.loads(json.dumps(self.own))
        for key, value in params.items():
            _put(table, key.split("."), value)
        try:
            return self.config.model_validate(table).model_dump(mode="json")
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None

    def propose(
        self, past: Sequence[tuple[Params, float | None]], *, sampler: Sampler, seed: int, name: str, number: int
    ) -> Params | None:
        """Return what a trial tries: nothing that was tried before; None once nothing else is found.

        It follows from the arguments alone, so that a search that was cut off goes on as it would have.

        Args:
            past: the parameters that were tried, in order, and what came of them; None where they failed.
            name, number: of the system and the trial; they make the draw its own.
        """
        tried = [self.with_params(params) for params, _ in past]
        for attempt in range(_ATTEMPTS):
            own_seed = zlib.crc32(json.dumps([seed, name, number, attempt]).encode())
            guided = sampler == "tpe" and attempt < _GUIDED
            params = {**_draw(self.ranges, past if guided else (), guided=guided, seed=own_seed), **self.fixed}
            try:
                table = self.with_params(params)
            except ValueError:
                continue  # heads that do not divide the width, and the like
            if table not in tried:
                return params
        return None


# -- the space ----------------------------------------------------------------------------
def search_of(spec: Spec, name: str) -> Search | None:
    """Return a system's search space: its component's, as ``[tune.space.NAME]`` changes it; None if there is none.

    A pipeline of several retrievers has their weights in the fusion, and the constant of
    reciprocal ranks; other fields of a pipeline are searched where the specification names them.

    Raises:
        SpecError: a key or range that does not fit the system.
    """
    system = spec.systems[name]
    declared, own = _declared(system)
    given = _flat(spec.tune.space.get(name, {}) if spec.tune is not None else {})
    config: type[Config] = system.part.entry.component.Config if system.part is not None else PipelineConfig
    where = f"tune.space.{name}"
    ranges = {key: space for key, space in declared.items() if _has(own, key)}
    fixed: dict[str, Any] = {}
    for key, value in given.items():
        if not _has(own, key):
            raise SpecError("there is no such parameter to tune", where=f"{where}.{key}", todo=did_you_mean(key, _keys(own)))
        ranges.pop(key, None)
        space = _space(value, _get(own, key), declared.get(key), f"{where}.{key}")
        if space is None:
            fixed[key] = value[0] if isinstance(value, list) else value
        else:
            ranges[key] = space
    search = Search(config, own, dict(sorted(ranges.items())), fixed)
    for key, space in search.ranges.items():
        for end in space.values if isinstance(space, Choice) else (space.low, space.high):
            _check_value(search, key, end, where)
    for key, value in fixed.items():
        _check_value(search, key, value, where)
    return search if ranges else None


def _declared(system: System) -> tuple[Mapping[str, Space], dict[str, Any]]:
    """Return the ranges that go with a system's kind, and its own parameters."""
    if system.part is not None:
        return system.part.entry.component.space, dict(system.part.params)
    own = system.pipeline.model_dump(mode="json")
    others = range(1, len(system.retrieve))
    if not others or system.choose is not None:
        return {}, own
    space: dict[str, Space] = {}
    if own["fusion_weights"] != "auto":  # which every trial chooses for itself
        own["fusion_weights"] = own["fusion_weights"] or [1.0] * len(system.retrieve)
        space = {f"fusion_weights.{i}": _WEIGHT for i in others}
    return (space | {"rrf_k": Uniform(1.0, 100.0, log=True)} if system.pipeline.fusion == "rrf" else space), own


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return ``{"a.b": value}`` for nested tables; a table of low and high is a value."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not (value and set(value) <= _RANGE):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _space(value: Any, own: Any, declared: Space | None, where: str) -> Space | None:
    """Read one entry of ``[tune.space.NAME]``; None for a fixed value."""
    try:
        if isinstance(value, list):
            return Choice(tuple(value)) if len(value) != 1 else None
        if not isinstance(value, Mapping):
            return None
        low, high, log = value["low"], value["high"], bool(value.get("log", False))
        whole = isinstance(declared, Whole) if declared is not None else isinstance(own, int) or own is None
        if whole and isinstance(low, int) and isinstance(high, int):
            return Whole(low, high, log)
        return Uniform(float(low), float(high), log)
    except KeyError as error:
        raise SpecError(f"a range needs {error.args[0]!r}", where=where, todo="give { low = ..., high = ... }") from None
    except (TypeError, ValueError) as error:
        raise SpecError(str(error), where=where, todo="give { low, high, log }, a list, or one value") from None


def _check_value(search: Search, key: str, value: Any, where: str) -> None:
    """Raise ``SpecError`` if a parameter cannot have a value, whatever the others are."""
    table: Any = json.loads(json.dumps(search.own))
    path = key.split(".")
    _put(table, path, value)
    try:
        search.config.model_validate(table)
    except ValidationError as error:
        for fault in error.errors():
            if [str(step) for step in fault["loc"][: len(path)]] == path:
                raise SpecError(f"cannot be {value!r}: {fault['msg']}", where=f"{where}.{key}") from None


def _step(table: Any, key: str) -> Any:
    if isinstance(table, list) and key.isdecimal() and int(key) < len(table):
        return table[int(key)]
    return table[key]


def _get(table: Any, key: str) -> Any:
    for step in key.split("."):
        table = _step(table, step)
    return table


def _has(table: Any, key: str) -> bool:
    try:
        _get(table, key)
    except (KeyError, TypeError):
        return False
    return True


def _put(table: Any, path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        table = _step(table, step)
    table[int(path[-1]) if isinstance(table, list) else path[-1]] = value


def _keys(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield key
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, Mapping):
            yield from (f"{key}.{k}" for k in _keys({str(k): v for k, v in inner.items()}))


# -- Optuna -------------------------------------------------------------------------------
def _draw(
    ranges: Mapping[str, Space], past: Sequence[tuple[Params, float | None]], *, guided: bool, seed: int
) -> dict[str, Any]:
    """Return one value from each range, by Optuna's samplers over a study of the past.

    Bergstra, Bardenet, Bengio, Kegl: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.
    """
    import optuna
    from optuna import distributions as d

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds: dict[str, Any] = {}
    for key, space in ranges.items():
        if isinstance(space, Choice):
            kinds[key] = d.CategoricalDistribution(list(range(len(space.values))))  # by place: any value can be one
        else:
            kind: Any = d.IntDistribution if isinstance(space, Whole) else d.FloatDistribution
            kinds[key] = kind(space.low, space.high, log=space.log)
    sampler = optuna.samplers.TPESampler(seed=seed) if guided else optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for params, value in past:
        inner = _inner(ranges, params)
        if inner is not None:
            state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
            study.add_trial(optuna.trial.create_trial(params=inner, distributions=kinds, value=value, state=state))
    drawn = study.ask(kinds).params
    return {key: _outer(space, drawn[key]) for key, space in ranges.items()}


def _inner(ranges: Mapping[str, Space], params: Params) -> dict[str, Any] | None:
    """Return parameters as Optuna knows them; None if one of them is not in its range."""
    found = {}
    for key, space in ranges.items():
        if key not in params:
            return None
        value = params[key]
        if isinstance(space, Choice):
            places = [i for i, v in enumerate(space.values) if _same(v, value)]
            if not places:
                return None
            value = places[0]
        elif isinstance(value, bool) or not isinstance(value, int | float) or not space.low <= value <= space.high:
            return None
        found[key] = value
    return found


def _outer(space: Space, drawn: Any) -> Any:
    """Return a drawn value as the config knows it; numbers have few digits, so that a tuned specification can be read."""
    if isinstance(space, Choice):
        return json.loads(json.dumps(space.values[drawn]))
    if isinstance(space, Whole):
        return int(drawn)
    return min(max(float(f"{drawn:.{_DIGITS}g}"), space.low), space.high)


def _same(a: Any, b: Any) -> bool:
    """Is it the same JSON value?  True is not 1."""
    return json.dumps(a) == json.dumps(b)
