"""Query expansion: text retrieval by what a profile or a language model says of the next item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Cases, Component, Dataset, Exchange, FilePath, Lists, ModelError, Note, Queries, Ragged, Resources
from llm4rec.features.values import Encoder
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatModel, ChatRequest, Message
from llm4rec.models.text import TextRetriever, TextRetrieverConfig, mixed
from llm4rec.prompted.items import item_names
from llm4rec.prompted.memory.titles import Title, TitleIndex, catalogue_titles, named
from llm4rec.prompted.memory.writing import sentences
from llm4rec.prompted.wording import Kind, Template, load_prompt, spelt

Answer = Literal["none", "profile", "description", "search", "vector", "id"]
#: The prompt of each answer that a language model gives.
_PROMPTS = {"description": "description", "search": "search", "vector": "title", "id": "title"}
_MOST_CHARS = 1_000


class ExpandedTextConfig(TextRetrieverConfig):
    """Parameters of :class:`ExpandedText`: those of text retrieval, and what expands the query."""

    answer: Answer = "profile"
    """What the query is expanded by.  ``none``: nothing, plain text retrieval.  ``profile``: the text of
    ``Queries.profiles``, which user memory writes.  ``description``: a model describes the next item,
    and the description is encoded.  ``search``: it writes a search query, which is encoded.
    ``vector``: it names items, and their vectors are the query.  ``id``: the items that it names
    come first, the others follow by text."""

    weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the expansion's vector against the user vector; 1 ignores the history.  Unused by ``id``."""

    llm: str | None = None
    """Name of the language model, where ``answer`` needs one."""

    samples: int = Field(default=1, ge=1, le=32)
    """Answers asked for; the mean of their vectors counts (of ``id``, the titles one after the other)."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    """Of several samples; a single one is asked for at 0."""

    titles: int = Field(default=5, ge=1, le=50)
    """Items that are to be named."""

    shown: int = Field(default=10, ge=0, le=200)
    """Number of the latest history items in the prompt."""

    things: str = "movies"
    """What the items are, in the plural."""

    did: str = "watched"
    """What users have done with them."""

    name: str | None = None
    """Template of an item's name in the prompt; by default the title, with the year where there is one."""

    max_tokens: int = Field(default=96, ge=8)
    """Longest answer in tokens."""

    prompt: FilePath | None = None
    """Path of a jinja template that replaces the built-in one."""

    exchanges: int = Field(default=8, ge=0)
    """Prompts and answers kept for each query, for the report."""

    @model_validator(mode="after")
    def _asks_if_it_needs(self) -> Self:
        if (self.answer in _PROMPTS) != (self.llm is not None):
            raise ValueError("answer = 'description', 'search', 'vector' and 'id' need an llm; the others take none")
        return self


@dataclass(frozen=True, slots=True)
class _Expansion:
    """What one query is expanded by.

    Attributes:
        texts: to be encoded.
        items: inside ids that were named, the best first.
        note: exchanges and failures.
    """

    texts: tuple[str, ...] = ()
    items: tuple[int, ...] = ()
    note: Note = field(default_factory=Note)


class ExpandedText(TextRetriever, Component[ExpandedTextConfig]):
    """Text retrieval whose user vector is mixed with a vector of what is said about the next item.

    With u the user vector of :class:`TextRetriever` and e the mean vector of the answers, the query is
    unit((1 - weight) u + weight e).  "Describe, then search" is HyDE (Gao et al., Precise zero-shot
    dense retrieval without relevance labels, ACL 2023, arXiv 2212.10496).

    A named title counts if it is an item's title, exactly after normalisation; ``unknown_title`` and
    ``ambiguous_title`` are counted.  A query for which there is no expansion is answered by its
    user vector alone, and counted as ``unexpanded``.
    """

    config: ExpandedTextConfig

    def __init__(
        self, config: ExpandedTextConfig | None = None, *, encoder: Encoder | None = None, llm: ChatModel | None = None
    ) -> None:
        super().__init__(config, encoder=encoder)
        self._llm = llm
        self._titles: TitleIndex | None = None
        c = self.config
        self._messages: Callable[..., tuple[Message, ...]] | None = None
        if c.answer in _PROMPTS:
            kind = _PROMPTS[c.answer]
            words = {"things": c.things, "did": c.did} | ({"titles": str(c.titles)} if kind == "title" else {})
            asks: dict[str, Kind] = {"history": "lines", "profile": "text", "request": "text"}
            asks.update(dict.fromkeys(words, "text"))
            template = Template(load_prompt(f"expand/{kind}", c.prompt), asks, ("history",))
            self._messages = partial(template.messages, **words)

    @classmethod
    def create(cls, config: TextRetrieverConfig, resources: Resources) -> Self:
        """Build from a config, with the encoder and the language model that it names."""
        assert isinstance(config, ExpandedTextConfig)
        llm = None if config.llm is None else resources.llm(config.llm)
        return cls(config, encoder=resources.encoder(config.encoder), llm=llm)

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Encode the catalogue, build the index, and keep names and titles."""
        super().fit(train, valid=valid, rng=rng)
        template = self.config.name or ("{title} ({year})" if "year" in train.item_table.columns else "{title}")
        self.names_ = item_names(train.item_table, template, max_chars=100, articles=True)
        self.titles_: list[Any] = [None if t is None else [list(t.names), t.year] for t in catalogue_titles(train)]
        self._titles = None
        return self

    # -- asking ---------------------------------------------------------------------------
    def profiles(self, queries: Queries) -> NDArray[np.float64]:
        """Return float64[n, d], each query's vector of unit length, mixed with its expansion."""
        return self._vectors(queries, self._expansions(queries))

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], cosines; -inf for items without text; above 1 for items that were named as ``id``."""
        return self._scores(queries, self._expansions(queries))

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` nearest items of each query, none of them excluded, with the exchanges in the notes."""
        parts = []
        for rows, chunk in queries.chunks(self.batch):
            expansions, hidden = self._expansions(chunk), exclude.take(rows)
            if self.config.answer == "id":
                lists = Lists.from_scores(self._scores(chunk, expansions), k, exclude=hidden)
            else:
                lists = self._fitted().search(self._vectors(chunk, expansions), k, exclude=hidden)
            parts.append(self._noted(lists, expansions))
        return Lists.concatenate(parts) if parts else Lists.empty(0, k)

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return the candidates in order of score, with the exchanges in the notes."""
        parts = []
        for rows, chunk in queries.chunks(self.batch):
            expansions, items = self._expansions(chunk), candidates.items[rows]
            scores = np.take_along_axis(self._scores(chunk, expansions), np.maximum(items, 0), axis=1)
            lowest = np.finfo(np.float32).min
            parts.append(self._noted(Lists.from_pools(items, np.where(np.isfinite(scores), scores, lowest)), expansions))
        return Lists.concatenate(parts) if parts else candidates

    def _noted(self, lists: Lists, expansions: Sequence[_Expansion]) -> Lists:
        if self.config.answer == "none":
            return lists
        kept = self.config.exchanges
        return replace(lists, notes=tuple(replace(e.note, exchanges=e.note.exchanges[:kept]) for e in expansions))

    def _scores(self, queries: Queries, expansions: Sequence[_Expansion]) -> NDArray[np.float32]:
        scores = self._fitted().scores(self._vectors(queries, expansions))
        for row, expansion in enumerate(expansions if self.config.answer == "id" else ()):
            for place, item in enumerate(expansion.items):  # cosines reach 1 at most
                scores[row, item] = 3.0 - place / len(expansion.items)
        return scores

    def _vectors(self, queries: Queries, expansions: Sequence[_Expansion]) -> NDArray[np.float64]:
        """Return float64[n, d], the user vectors mixed with the means of what each was expanded by."""
        own = super().profiles(queries)
        if self.config.answer in ("none", "id"):
            return own
        counts = [len(e.items) if self.config.answer == "vector" else len(e.texts) for e in expansions]
        if self.config.answer == "vector":
            named_items = [item for e in expansions for item in e.items]
            parts = self._fitted().vectors[named_items].astype(np.float64)
        else:
            texts = [text for e in expansions for text in e.texts]
            parts = self.encoded(texts) if texts else np.empty((0, own.shape[1]))
        means = np.zeros_like(own)
        np.add.at(means, np.repeat(np.arange(len(own)), counts), parts)
        # The average user stands in for a missing history; what is known of this one counts alone.
        known = (queries.history.lengths > 0) | np.array([bool(t.strip()) for t in queries.texts or [""] * len(queries)], bool)
        share = np.where(known, self.config.weight, 1.0)[:, None]
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return mixed(own, means / np.where(norms > 0, norms, 1.0), share)

    def _expansions(self, queries: Queries) -> list[_Expansion]:
        """Return what each query is expanded by."""
        if self.config.answer == "none":
            return [_Expansion()] * len(queries)
        if self.config.answer == "profile":
            texts = [text.strip() for text in queries.profiles or [""] * len(queries)]
            prefix = self.config.request_prefix
            return [_Expansion((prefix + t,)) if t else _Expansion(note=Note(("unexpanded",))) for t in texts]
        return self._asked(queries)

    def _asked(self, queries: Queries) -> list[_Expansion]:
        """Ask the language model about each query."""
        c = self.config
        if self._llm is None or self._messages is None:
            raise ModelError("was made without a language model", where="ExpandedText", todo="use ExpandedText.create")
        asked = [self._ask(queries, row) for row in range(len(queries))]
        hot = c.temperature if c.samples > 1 else 0.0
        requests = [
            ChatRequest(messages, temperature=hot, max_tokens=c.max_tokens, sample=sample)
            for messages in asked
            for sample in range(c.samples)
        ]
        replies = self._llm.chat(requests) if requests else []
        out = []
        for row, messages in enumerate(asked):
            texts: list[str] = []
            items: list[int] = []
            failures: list[str] = []
            exchanges = []
            for reply in replies[row * c.samples : (row + 1) * c.samples]:
                if c.answer in ("vector", "id"):
                    found, kinds = self._resolved(reply.text) if reply.failure in (None, "truncated") else ((), ())
                    items += [i for i in found if i not in items]
                    failures += [*([reply.failure] if reply.failure else []), *kinds]
                else:
                    text, failure = sentences(reply, _MOST_CHARS)
                    texts += [text] if text else []
                    failures += [failure] if failure else []
                exchanges.append(Exchange(spelt(messages), reply.text or reply.detail, reply.failure))
            if not texts and not items:
                failures.append("unexpanded")
            if c.answer == "search":  # a question; a description is a document like the items' own
                texts = [c.request_prefix + text for text in texts]
            out.append(_Expansion(tuple(texts), tuple(items), Note(tuple(failures), exchanges=tuple(exchanges))))
        return out

    def _ask(self, queries: Queries, row: int) -> tuple[Message, ...]:
        assert self._messages is not None
        history = queries.history[row]
        return self._messages(
            history=[self.names_[int(i)] for i in history[max(0, len(history) - self.config.shown) :]],
            profile=plain(queries.profiles[row], _MOST_CHARS) if queries.profiles else "",
            request=plain(queries.texts[row], _MOST_CHARS) if queries.texts else "",
        )

    def _resolved(self, answer: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return the items whose titles an answer gives, one a line, and the kinds of what was wrong."""
        if self._titles is None:
            self._titles = TitleIndex([None if t is None else Title(tuple(t[0]), t[1]) for t in self.titles_])
        items: list[int] = []
        kinds = []
        for title in named(answer):
            found = self._titles.find(title)
            if len(found) == 1:
                items += [i for i in found if i not in items]
            else:
                kinds.append("ambiguous_title" if found else "unknown_title")
        return tuple(items), tuple(kinds)

    # -- saving ---------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return the state of the text retriever, names and titles."""
        return super().state() | {"names_": self.names_, "titles_": self.titles_}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        super().restore(state)
        self.names_, self.titles_, self._titles = state["names_"], state["titles_"], None
