"""The encoders and language models of a run: opened on first use, shared by all components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm4rec.assets import ASSETS, fetch, home
from llm4rec.core import SpecError, did_you_mean
from llm4rec.features.encoders import Encoder, EncoderConfig, open_encoder
from llm4rec.llm import LLMConfig, Metered, Mode, Store, Stored, open_chat_model


class RunResources:
    """Opens what the ``[llm.NAME]`` and ``[encoder.NAME]`` tables describe.

    Args:
        llms, encoders: the tables, by name.
        store: file of the model calls; made when a model is first asked for.
        mode: of the store.
    """

    def __init__(
        self, llms: Mapping[str, LLMConfig], encoders: Mapping[str, EncoderConfig], store: Path, mode: Mode = "use"
    ) -> None:
        self._llm_tables, self._encoder_tables = llms, encoders
        self._path, self._mode = store, mode
        self._store: Store | None = None
        self._llms: dict[str, Metered] = {}
        self._encoders: dict[str, Encoder] = {}

    def llm(self, name: str) -> Metered:
        """Return the named model, metered, behind the run's store."""
        if name not in self._llms:
            config = _table(self._llm_tables, "llm", name)
            self._store = self._store or Store(self._path)
            self._llms[name] = Metered(Stored(open_model(config), self._store, self._mode), config)
        return self._llms[name]

    def encoder(self, name: str) -> Encoder:
        """Return the named encoder, behind the cache of vectors."""
        if name not in self._encoders:
            self._encoders[name] = open_encoder(_table(self._encoder_tables, "encoder", name))
        return self._encoders[name]

    def models(self) -> dict[str, Metered]:
        """Return the models opened so far, by name."""
        return dict(self._llms)

    def close(self) -> None:
        """Close the store, which then stands alone."""
        if self._store is not None:
            self._store.close()

    def usage(self) -> dict[str, Any]:
        return {}


def _table(tables, kind, name):
    if name not in tables:
        raise SpecError(f"there is no table [{kind}.{name}]", todo=did_you_mean(name, tables))
    return tables[name]
