"""The encoders and language models of a run: opened on first use, shared by all components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from llm4rec.assets import ASSETS, fetch, folder, home
from llm4rec.core import SpecError, did_you_mean
from llm4rec.features.encoders import Encoder, EncoderConfig, open_encoder
from llm4rec.llm import (
    Budget,
    BudgetConfig,
    Budgeted,
    ChatModel,
    DryRun,
    Estimate,
    LLMConfig,
    Metered,
    Mode,
    Store,
    Stored,
    Tally,
    open_chat_model,
    probe,
)

T = TypeVar("T")


class _Encoders:
    """The encoders of a run, by name, behind the cache of vectors."""

    def __init__(self, tables: Mapping[str, EncoderConfig]) -> None:
        self._tables = tables
        self._open: dict[str, Encoder] = {}

    def __call__(self, name: str) -> Encoder:
        if name not in self._open:
            self._open[name] = open_encoder(_table(self._tables, "encoder", name))
        return self._open[name]


class RunResources:
    """Opens what the ``[llm.NAME]`` and ``[encoder.NAME]`` tables describe.

    Args:
        llms, encoders: the tables, by name.
        store: file of the model calls; made on first use if it is not there.
        mode: of the store.
        budget: what the models may take together.
    """

    def __init__(
        self,
        llms: Mapping[str, LLMConfig],
        encoders: Mapping[str, EncoderConfig],
        store: Path,
        mode: Mode = "use",
        budget: BudgetConfig | None = None,
    ) -> None:
        self._llm_tables, self.encoder, self.mode = llms, _Encoders(encoders), mode
        self._path = store
        self._store: Store | None = None
        self._budget = None if budget is None else Budget(budget)
        self._llms: dict[str, Metered] = {}

    def open_store(self) -> Store:
        """Return the store of model calls, opened on first use: what asks no model may lie where nothing can be written."""
        if self._store is None:
            self._store = Store(self._path)
        return self._store

    def llm(self, name: str) -> Metered:
        """Return the named model, metered, behind the run's store."""
        if name not in self._llms:
            config = _table(self._llm_tables, "llm", name)
            model = open_model(config, download=self.mode != "replay")
            if self._budget is not None and self.mode != "replay":
                model = Budgeted(model, self._budget, config.price, self.open_store())
            self._llms[name] = Metered(Stored(model, self.open_store(), self.mode), config.price)
        return self._llms[name]

    def models(self) -> dict[str, Metered]:
        """Return the models opened so far, by name."""
        return dict(self._llms)

    def tallies(self) -> dict[str, Tally]:
        """Return what each opened model has been asked so far."""
        return {name: model.tally for name, model in self._llms.items()}

    def abilities(self) -> dict[str, dict[str, Any]]:
        """Return what the opened models behind a server are found to honour; asked once, then in the store."""
        return {name: probe(m.model) for name, m in self._llms.items() if self._llm_tables[name].backend == "server"}

    def close(self) -> None:
        """Close the store, which then stands alone."""
        if self._store is not None:
            self._store.close()


class CountedResources:
    """The resources of an open run with a count of their own: what one question took, whoever else asks meanwhile.

    Args:
        resources: of the run.
    """

    def __init__(self, resources: RunResources) -> None:
        self._resources, self.encoder = resources, resources.encoder
        self._llms: dict[str, Metered] = {}

    def llm(self, name: str) -> Metered:
        """Return the named model, metered anew."""
        if name not in self._llms:
            shared = self._resources.llm(name)
            self._llms[name] = Metered(shared.model, shared.price)
        return self._llms[name]

    @property
    def tally(self) -> Tally:
        """What all models were asked, together."""
        return sum((model.tally for model in self._llms.values()), Tally())

    @property
    def paid(self) -> float | None:
        """US dollars of the calls that reached a model; None as soon as one is unknown."""
        found = [model.tally.paid(model.price) for model in self._llms.values() if model.tally.calls]
        return None if any(v is None for v in found) else sum(v or 0.0 for v in found)


class DryResources:
    """The same tables for a dry run: models that answer from the store and count what they would be asked.

    Args:
        llms, encoders: the tables, by name.
        store: file of the model calls of an earlier run; it need not be there.
    """

    def __init__(self, llms: Mapping[str, LLMConfig], encoders: Mapping[str, EncoderConfig], store: Path) -> None:
        self._llm_tables, self.encoder = llms, _Encoders(encoders)
        self._store = Store(store, readonly=True) if store.is_file() else None
        self._llms: dict[str, DryRun] = {}

    def llm(self, name: str) -> DryRun:
        """Return the named model, which asks nobody."""
        if name not in self._llms:
            config = _table(self._llm_tables, "llm", name)
            slots = config.concurrency if config.backend == "server" else 1
            self._llms[name] = DryRun(open_model(config), self._store, slots=slots)
        return self._llms[name]

    def estimates(self) -> dict[str, Estimate]:
        """Return what each opened model would have been asked so far."""
        return {name: model.estimate for name, model in self._llms.items()}

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()


def open_model(config: LLMConfig, *, download: bool = True) -> ChatModel:
    """Open a model's table; an asset's name stands for its file, which is fetched unless ``download`` is false."""
    cache = home() / "converted"
    if config.backend != "local" or config.model not in ASSETS:
        return open_chat_model(config, cache=cache)
    file = ASSETS[config.model].gguf
    if file is None:
        fitting = [n for n, a in ASSETS.items() if a.gguf is not None]
        raise SpecError(f"{config.model!r} is no language model", todo=did_you_mean(config.model, fitting))
    place = fetch(config.model) if download else folder(config.model)
    return open_chat_model(config, source=place / file[0], cache=cache, weights=file[1])


def _table(tables: Mapping[str, T], kind: str, name: str) -> T:
    if name not in tables:
        raise SpecError(f"there is no table [{kind}.{name}]", todo=did_you_mean(name, tables))
    return tables[name]


class EncoderResources:
    """The encoders alone, for work that asks no language model."""

    def __init__(self, encoders: Mapping[str, EncoderConfig]) -> None:
        self.encoder = _Encoders(encoders)

    def llm(self, name: str) -> ChatModel:
        """Refuse."""
        raise SpecError(f"no language model is asked here, so not {name!r}")
