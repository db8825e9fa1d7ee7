"""The encoders and language models of a run: opened on first use, shared by all components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from llm4rec.assets import ASSETS, fetch, folder, home
from llm4rec.core import SpecError, did_you_mean
from llm4rec.features.encoders import Encoder, EncoderConfig, open_encoder
from llm4rec.llm import ChatModel, LLMConfig, Metered, Mode, Store, Stored, Tally, open_chat_model

T = TypeVar("T")


class RunResources:
    """Opens what the ``[llm.NAME]`` and ``[encoder.NAME]`` tables describe.

    Args:
        llms, encoders: the tables, by name.
        store: file of the model calls; made if it is not there.
        mode: of the store.
    """

    def __init__(
        self, llms: Mapping[str, LLMConfig], encoders: Mapping[str, EncoderConfig], store: Path, mode: Mode = "use"
    ) -> None:
        self._llm_tables, self._encoder_tables, self.mode = llms, encoders, mode
        self._store = Store(store)
        self._llms: dict[str, Metered] = {}
        self._encoders: dict[str, Encoder] = {}

    def llm(self, name: str) -> Metered:
        """Return the named model, metered, behind the run's store."""
        if name not in self._llms:
            config = _table(self._llm_tables, "llm", name)
            model = open_model(config, download=self.mode != "replay")
            self._llms[name] = Metered(Stored(model, self._store, self.mode), config.price)
        return self._llms[name]

    def encoder(self, name: str) -> Encoder:
        """Return the named encoder, behind the cache of vectors."""
        if name not in self._encoders:
            self._encoders[name] = open_encoder(_table(self._encoder_tables, "encoder", name))
        return self._encoders[name]

    def models(self) -> dict[str, Metered]:
        """Return the models opened so far, by name."""
        return dict(self._llms)

    def tallies(self) -> dict[str, Tally]:
        """Return what each opened model has been asked so far."""
        return {name: model.tally for name, model in self._llms.items()}

    def close(self) -> None:
        """Close the store, which then stands alone."""
        self._store.close()


def open_model(config: LLMConfig, *, download: bool = True) -> ChatModel:
    """Open a model's table; an asset's name stands for its file, which is fetched unless ``download`` is false."""
    cache = home() / "converted"
    if config.backend != "local" or config.model not in ASSETS:
        return open_chat_model(config, cache=cache)
    weights = {name: sha256 for name, sha256 in ASSETS[config.model].members.items() if name.endswith(".gguf")}
    if len(weights) != 1:
        fitting = [n for n, a in ASSETS.items() if any(m.endswith(".gguf") for m in a.members)]
        raise SpecError(f"{config.model!r} is no language model", todo=did_you_mean(config.model, fitting))
    ((name, sha256),) = weights.items()
    place = fetch(config.model) if download else folder(config.model)
    return open_chat_model(config, source=place / name, cache=cache, weights=sha256)


def _table(tables: Mapping[str, T], kind: str, name: str) -> T:
    if name not in tables:
        raise SpecError(f"there is no table [{kind}.{name}]", todo=did_you_mean(name, tables))
    return tables[name]
