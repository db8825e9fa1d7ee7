"""From a run directory to an engine that answers."""

from __future__ import annotations

from functools import partial

from llm4rec.agents.engine import Engine, Served
from llm4rec.core import Dataset
from llm4rec.experiment.opened import OpenRun
from llm4rec.experiment.plan import ranks_with_llm
from llm4rec.experiment.spec import Spec


def open_engine(run: OpenRun, default: str | None = None, dataset: Dataset | None = None) -> Engine:
    """Return an engine over a run's systems; ``default`` is the best of them unless named.

    It knows all events of the run unless it is given others, such as those of the training part.
    """
    served = {name: _served(run, name) for name in run.spec.systems}
    return Engine(run.dataset if dataset is None else dataset, served, default or run.best)


def _served(run: OpenRun, name: str) -> Served:
    system = run.spec.systems[name]
    own = system.part is not None and not system.augment
    return Served(
        name,
        str(run.summary.get(name, {}).get("label") or name),
        partial(run.system, name),
        uses_llm=ranks_with_llm(run.spec, name),
        ranks=bool(system.rank) or (own and hasattr(system.parts[0].entry.component, "rank")),
        explains=system.explain is not None,
        tells_by_llm=system.explain is not None and bool(system.explain.references("llm")),
        reads=system.part is not None and "request_weight" in system.part.params,
        fallback=_without_llm(run, name) if ranks_with_llm(run.spec, name) else None,
    )


def _without_llm(run: OpenRun, name: str) -> str | None:
    """Return the nearest system below that asks no language model; if there is none, the best of the run's others."""
    found = _below(run.spec, name)
    if found is not None:
        return found
    others = [n for n in run.spec.systems if not ranks_with_llm(run.spec, n) and not run.spec.systems[n].control]
    return run.best if run.best in others else next(iter(others), None)


def _below(spec: Spec, name: str) -> str | None:
    for inner in spec.systems[name].retrieve:
        if not ranks_with_llm(spec, inner):
            return inner
        if (found := _below(spec, inner)) is not None:
            return found
    return None
