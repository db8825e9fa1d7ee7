"""A pre-trained language model that has learnt the items' IDs as words of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Cases, Choice, Dataset, ModelError, Queries, Ragged, Resources, SpecError, Uniform
from llm4rec.features.text import ItemText
from llm4rec.generative.causal import CausalSteps
from llm4rec.generative.ids import IdScheme, ItemIDs, Pieces, RQKMeans, TitleIDs
from llm4rec.generative.item_llm_examples import HISTORY, Examples, without_end, written
from llm4rec.generative.item_llm_network import Network
from llm4rec.generative.item_llm_training import TuningConfig, tune
from llm4rec.generative.levels import shortest
from llm4rec.generative.trie import Trie
from llm4rec.generative.writer import IDWriter, WriterConfig
from llm4rec.llm.config import Device, Dtype

#: Folder of the merged model within that of the component.
_MODEL = "model"


class ItemLLMConfig(WriterConfig, TuningConfig):
    """Parameters of a language model with tokens for items."""

    ids: IdScheme = Field(RQKMeans.model_validate({}), discriminator="scheme")
    """How items get their IDs; with ``title`` they are written in the model's own tokens, and none are added."""
    checkpoint: str = "smollm2-135m-instruct"
    """Name of an asset, folder of transformers, or hub name of a causal language model."""
    device: Device = "auto"
    """``auto`` is the GPU if there is one."""
    dtype: Dtype = "auto"
    """Precision of the model's own weights; ``auto`` is bfloat16 on a GPU and on a processor that has it, else float32.
    What is trained is float32, and rounds to it when it is merged."""
    length: int = Field(20, ge=1)
    """Most recent events that are read, and answers of one training sequence."""
    template: str = "{title}"
    """What the alignment tasks call an item, from columns of the item table; the tokens of an ID start from the mean
    of the pieces of the names of the items that have them."""
    max_pieces: int = Field(24, ge=1)
    """Tokens of a name, at most."""
    to_title: float = Field(0.2, ge=0, lt=1)
    """Share of an epoch's sequences that ask for the name of an item by its ID."""
    to_id: float = Field(0.2, ge=0, lt=1)
    """Share of an epoch's sequences that ask for the ID of an item by its name.  The rest are the histories, each once
    an epoch."""
    valid_cases: int = Field(200, ge=1)
    """Validation cases, drawn by seed, that are looked at after each epoch."""

    @model_validator(mode="after")
    def _leaves_room_for_histories(self) -> Self:
        if self.to_title + self.to_id >= 1:
            raise ValueError("to_title and to_id together must be below 1: the rest are histories")
        return self


class ItemLLM(IDWriter[ItemLLMConfig]):
    """A decoder-only language model whose vocabulary goes on with the tokens of item IDs.

    A history is a list of IDs, and the next item is what the list goes on with, so one pass over a history
    trains on all of its items but the first (a long one is read in windows, each from the last item of the one
    before).  Two tasks beside it tie the new tokens to what the model knows: the title of an ID, and the ID of a
    title; they reach items that nobody has touched.  Only the answers' tokens bear a loss.  Trained are LoRA layers
    and the new tokens' embeddings; then the layers are merged into the weights, and what is saved is a model of
    transformers with its tokenizer (``model/``), for any server that runs such models.  At the question the trie of
    the IDs is decoded, all of it or by beams.

    Zheng et al., *Adapting Large Language Models by Integrating Collaborative Semantics for Recommendation* (LC-Rec),
    ICDE 2024 (arXiv 2311.09049), with fewer alignment tasks, LoRA (Hu et al., ICLR 2022) in place of full tuning, and all
    places of a history trained at once.
    """

    batch: ClassVar[int] = 32
    prefixes: ClassVar[int] = 1 << 12
    space: ClassVar = {
        "learning_rate": Uniform(1e-4, 2e-3, log=True),
        "token_rate": Uniform(1e-3, 2e-2, log=True),
        "lora_rank": Choice((8, 16, 32)),
        "dropout": Uniform(0.0, 0.2),
    }
    network_: Network
    ids_: ItemIDs

    # -- training -----------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Add the IDs' tokens and tune; ``valid``, if given, decides when to stop (by NDCG@10, seen masked).

        Raises:
            ModelError: if the model cannot be read, or cannot be decoded step by step.
            SpecError: if the item table lacks what ``template`` names, or a history does not fit into the model.
        """
        config = self.config
        network = Network.opened(config.checkpoint, device=config.device, dtype=config.dtype)
        seed = int(rng.integers(2**31))
        names = self._names(train, network)
        self._name_items(train, network, names, rng)
        self.popularity_ = train.item_counts.astype(np.float32)
        examples = Examples(
            train, self._codes, names if network.added else None, self._encoded,
            length=config.length, to_title=config.to_title, to_id=config.to_id,
        )  # fmt: skip
        room = network.longest - len(self._opening) - (config.length + 1) * self.ids_.depth  # of what is read and written
        if room < 0:
            what = f"{config.length} items of {self.ids_.depth} tokens do not fit into {network.longest}"
            raise SpecError(what, where="length", todo="take fewer")
        self._try_out()
        self.training_: list[dict[str, float]] = []
        if not config.epochs:
            return self
        looked_at = None
        if valid is not None:
            some = np.random.default_rng(seed).permutation(len(valid))[: config.valid_cases]
            looked_at = valid.take(np.sort(some))
        torch.manual_seed(seed)
        network.adapt(rank=config.lora_rank, alpha=config.alpha, dropout=config.dropout)
        self.training_ = tune(
            network, examples.draw, config, seed=seed, key=self._key(train, valid, names, seed),
            validate=None if looked_at is None else lambda: self.validated(looked_at),
        )  # fmt: skip
        network.merge()
        return self

    def _names(self, train: Dataset, network: Network) -> Ragged | None:
        """Return the tokens of each item's name, with the end behind them; None if no task reads names and there are none."""
        config = self.config
        text = ItemText(config.template)
        if not config.to_title and not config.to_id and not set(text.columns) <= set(train.item_table.columns):
            return None
        end = network.tokens.end
        if end is None:
            raise ModelError("its tokenizer has no token that ends a text", where=config.checkpoint, todo="name another model")
        texts = text.render(train.item_table)
        return Ragged.of([[*network.tokens.of(f" {text}")[: config.max_pieces], end] if text else [end] for text in texts])

    def _name_items(self, train: Dataset, network: Network, names: Ragged | None, rng: np.random.Generator) -> None:
        """Build the IDs, and give the model their tokens."""
        scheme = self.config.ids
        if isinstance(scheme, TitleIDs):
            pieces = Pieces(lambda texts: [network.tokens.of(text) for text in texts], network.first, network.tokens.end or 0)
            ids = scheme.build(train, encoder=self._encoder, rng=rng, pieces=pieces)
            self._take(network, ids, 0)
            return
        ids = scheme.build(train, encoder=self._encoder, rng=rng)
        near: list[list[int]] = [[] for _ in range(ids.n_tokens)]
        if names is not None:  # the text tokens of all items that have a token
            held = without_end(names).take(ids.codes.rows)
            order = np.argsort(np.repeat(ids.codes.values, held.lengths), kind="stable")
            sizes = np.bincount(ids.codes.values, weights=held.lengths, minlength=ids.n_tokens).astype(np.int64)
            near = Ragged.from_lengths(sizes, held.values[order]).tolist()
        network.extend(ids.written(), near)
        self._take(network, ids, network.first)

    def _take(self, network: Network, ids: ItemIDs, first: int) -> None:
        """Take over a network and the IDs, whose token 0 is the network's token ``first``."""
        self.network_, self.ids_, self.first_ = network, ids, first
        self._codes = Ragged(ids.codes.offsets, ids.codes.values + first)
        self._trie = Trie.of(shortest(ids), np.arange(ids.n_tokens) + first, network.size)
        self._opening = self._encoded(HISTORY, True)

    def _encoded(self, text: str, opens: bool) -> list[int]:
        tokens = self.network_.tokens
        return tokens.of_prompt(text) if opens else tokens.of(text)

    def _try_out(self) -> None:
        """Find out before hours of training whether the model can be decoded."""
        with torch.inference_mode():
            self.network_.steps(Ragged.of([self._opening])).begin()

    def _key(self, train: Dataset, valid: Cases | None, names: Ragged | None, seed: int) -> str:
        """Return what tells this training from all others."""
        config = self.config.model_dump(mode="json", exclude={"keep", "keep_every"})
        model = self.network_.model
        place = [str(model.device), str(model.dtype)]
        told = hashlib.sha256(json.dumps([config, train.fingerprint(), seed, place], sort_keys=True).encode())
        for weight in model.parameters():  # another model may lie under the same name
            told.update(weight.detach().flatten()[:16].float().cpu().numpy().tobytes())
        cases = [] if valid is None else [valid.truth, valid.seen, valid.queries.history]
        for rows in (self._codes, *cases, *([] if names is None else [names])):
            told.update(rows.offsets.tobytes() + rows.values.tobytes())
        return told.hexdigest()[:16]

    # -- recommending -------------------------------------------------------------------
    @property
    def trie(self) -> Trie:
        """The items' IDs, cut where what follows is certain."""
        return self._trie

    def decoders(self, queries: Queries) -> Iterator[tuple[NDArray[np.int64], CausalSteps]]:
        """Yield the rows of queries with a history, and what decodes their next items."""
        if len(known := np.flatnonzero(queries.history.lengths)):
            histories = queries.take(known).history.last(self.config.length)
            yield known, self.network_.steps(written(histories, self._codes, self._opening).tokens)

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return the IDs and what else ``fit`` left beside the model."""
        ids = {f"ids_{name}_": value for name, value in self.ids_.state().items()}
        return ids | {"popularity_": self.popularity_, "training_": self.training_, "first_": self.first_}

    def save(self, folder: Path) -> None:
        """Write the configuration, the IDs, and the merged model as a folder of transformers."""
        super().save(folder)
        self.network_.save(folder / _MODEL)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the IDs; ``load`` adds the model."""
        self.popularity_, self.training_, self.first_ = state["popularity_"], state["training_"], int(state["first_"])
        names = [name for name in state if name.startswith("ids_")]
        self.ids_ = ItemIDs.from_state({name.removeprefix("ids_").removesuffix("_"): state[name] for name in names})

    @classmethod
    def load(cls, folder: Path, resources: Resources | None = None) -> Self:
        """Read what ``save`` wrote, onto the device and in the precision that the configuration names."""
        component = super().load(folder, resources)
        config = component.config
        network = Network.opened(str(folder / _MODEL), device=config.device, dtype=config.dtype)
        component._take(network, component.ids_, component.first_)
        return component
