"""A language model says why items were recommended; code checks what it says.

"Choose" suits small models: the model picks, by likelihood, which history item and which shared
attribute support the recommendation, and writes one sentence about them.  "Json" asks a larger
model for all three at once.  Either way the claims are resolved to ids by code and checked
against the history and the catalogue.  A sentence that does not hold is asked for once more, with
what is wrong in it; if that does not hold either, a fixed one stands in and the failure is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Component, Dataset, Explanation, FilePath, Lists, ModelError, Queries, Resources
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Message
from llm4rec.prompted import likelihood
from llm4rec.prompted.explain.check import Checker
from llm4rec.prompted.explain.evidence import Evidence, Pairs, attribute_table, rarity
from llm4rec.prompted.explain.templated import EvidenceConfig, Sentences, choose, jaccard
from llm4rec.prompted.items import item_names
from llm4rec.prompted.wording import load_prompt, spelt

_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "history": {"type": "integer"},
        "attribute": {"type": "integer"},
        "sentence": {"type": "string"},
    },
    "required": ["history", "attribute", "sentence"],
    "additionalProperties": False,
}

#: Failures of a sentence, which a second try may cure.
_REPAIRABLE = frozenset(
    {
        "missing_evidence",
        "unsupported_claim",
        "unsupported_attribute",
        "unsupported_mention",
        "out_of_range",
        "empty",
        "truncated",
    }
)


class LLMExplainerConfig(EvidenceConfig):
    """Parameters of :class:`LLMExplainer`."""

    llm: str = "embedded"
    """Name of the language model among the run's resources."""
    mode: Literal["choose", "json"] = "choose"
    """"choose" for small models (evidence by likelihood, then one sentence), "json" for larger ones."""
    template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one of the chosen mode."""
    top: int = Field(3, ge=1)
    """Items of each list that the model explains; those behind them get the fixed sentence, without a call."""
    prior_weight: float = Field(0.5, ge=0.0, le=2.0)
    """Weight of an option's likelihood without the recommended item, which is subtracted ("choose")."""
    max_tokens: int = Field(48, ge=8)
    """Longest sentence in tokens ("choose"); "json" may use 32 more."""
    repair: bool = True
    """Ask once more for a sentence that does not hold, with what nothing supports in it."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """One explanation on its way.

    Attributes:
        evidence: what is cited so far.
        options: what may be cited: history item -> codes of the values shared with it, the rarest first;
            the newest item first.
        failure: kind of failure, after which nothing more is asked.
        prompts, answers: the exchange so far.
        written: the sentences that did not hold.
        wrong: words of the last of them that nothing supports.
    """

    evidence: Evidence
    options: Mapping[int, tuple[int, ...]]
    failure: str | None = None
    prompts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    def told(self, prompt: str, answer: str, failure: str | None = None) -> _Draft:
        """Return the draft with one more question and answer."""
        return replace(self, failure=failure or self.failure, prompts=(*self.prompts, prompt), answers=(*self.answers, answer))


class LLMExplainer(Component[LLMExplainerConfig]):
    """Explains each recommended item by a sentence whose claims are true, or says which failure it was.

    Failures: those of the language model (``truncated``, ``refused``, ``schema``, ...); of the
    sentence (see :mod:`llm4rec.prompted.explain.check`); ``out_of_range`` for a number that was not
    offered; ``unsupported_claim`` for an attribute that the two items do not share; and
    ``no_evidence`` where history and catalogue offer nothing (then nothing is asked or said).
    """

    def __init__(self, config: LLMExplainerConfig | None = None, llm: ChatModel | None = None) -> None:
        super().__init__(config)
        self._llm = llm
        c = self.config
        words = {"thing": c.thing, "did": c.did}
        self._cites = {
            "cite": partial(load_prompt("explain/cite").text, **words),
            "attribute": partial(load_prompt("explain/attribute").text, **words),
        }
        kind = "sentence" if c.mode == "choose" else "json"
        self._asks = partial(load_prompt(f"explain/{kind}", c.template).messages, **words)
        self._asks_again = partial(load_prompt(f"explain/repair-{kind}").messages, **words)
        self._names: dict[str, likelihood.Names] = {}
        self._checker: Checker | None = None

    @classmethod
    def create(cls, config: LLMExplainerConfig, resources: Resources) -> Self:
        """Build with the language model named in the config."""
        return cls(config, resources.llm(config.llm))

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Keep names and attributes of the items."""
        c = self.config
        self.names_ = item_names(train.item_table, c.item, max_chars=c.max_chars, articles=c.articles)
        self.attributes_, self.values_ = attribute_table(train.item_table, c.attributes)
        self.order_ = np.argsort(-train.item_counts, kind="stable")
        self._names, self._checker = {}, None
        return self

    # -- explaining ---------------------------------------------------------------------
    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return one explanation for each listed item, the claims of each checked."""
        c = self.config
        listed = lists.to_ragged()
        pairs = Pairs.of(queries, lists, c.history, self.attributes_)
        base = choose(pairs, listed.values, jaccard(pairs, self.attributes_), self.attributes_, self.values_)
        sentences = Sentences(self.names_, c.thing, c.did)
        out = [sentences.write(evidence) for evidence in base]
        rank = np.arange(len(listed.values)) - np.repeat(listed.offsets[:-1], listed.lengths)
        asked = [at for at in np.flatnonzero(rank < c.top).tolist() if out[at].failure is None]
        says = rarity(self.attributes_)
        drafts = [_Draft(base[at], self._options(pairs, at, says)) for at in asked]
        told = self._chosen(drafts) if c.mode == "choose" else self._written(drafts)
        for at, (draft, explanation) in zip(asked, told, strict=True):
            if explanation is None:
                explanation = replace(sentences.write(draft.evidence), failure=draft.failure)
            out[at] = replace(
                explanation,
                exchange_prompt="\n\n".join(draft.prompts),
                exchange_answer="\n\n".join(draft.answers),
                drafts=draft.written,
            )
        return [tuple(out[a:b]) for a, b in zip(listed.offsets[:-1], listed.offsets[1:], strict=True)]

    def _options(self, pairs: Pairs, place: int, says: NDArray[np.float64]) -> dict[int, tuple[int, ...]]:
        """Return what may be cited for a listed item: the history items that share a value, else all of them."""
        start, stop = np.searchsorted(pairs.place, [place, place + 1])
        options = {}
        for at in range(start, stop):
            codes = pairs.values(at)
            options[int(pairs.cited[at])] = tuple(codes[np.argsort(-says[codes], kind="stable")].tolist())
        return {cited: codes for cited, codes in options.items() if codes} or options

    # -- choose -------------------------------------------------------------------------
    def _chosen(self, drafts: list[_Draft]) -> list[tuple[_Draft, Explanation | None]]:
        """Let the model choose the history item, then the value, then write."""
        drafts = self._pick(drafts, "cite", lambda draft: list(draft.options), self._cite)
        drafts = self._pick(drafts, "attribute", self._shared, self._state)
        open_ = [at for at, draft in enumerate(drafts) if draft.failure is None]
        requests = [ChatRequest(self._ask(drafts[at]), max_tokens=self.config.max_tokens) for at in open_]
        told = dict(zip(open_, self._asked([drafts[at] for at in open_], requests), strict=True))
        return [told.get(at, (draft, None)) for at, draft in enumerate(drafts)]

    def _pick(
        self,
        drafts: list[_Draft],
        name: str,
        offers: Callable[[_Draft], Sequence[int]],
        take: Callable[[_Draft, int], _Draft],
    ) -> list[_Draft]:
        """Let the model choose one of each draft's offers (ids) by likelihood; one alone is taken unasked."""
        weight, names = self.config.prior_weight, self._offered(name)
        offered: list[Sequence[int]] = [offers(draft) if draft.failure is None else () for draft in drafts]
        asked = [at for at, offer in enumerate(offered) if len(offer) > 1]
        wordings = [likelihood.Wording.of(self._cites[name], **self._words(drafts[at])) for at in asked]
        rows = [np.array(offered[at], dtype=np.int64) for at in asked]
        answers = likelihood.ask(self._model(), names, wordings, rows, alone=weight > 0) if asked else []
        out = [take(draft, offer[0]) if len(offer) == 1 else draft for draft, offer in zip(drafts, offered, strict=True)]
        for at, row, answer in zip(asked, rows, answers, strict=True):
            failure = answer.failures[0] if answer.failures else None
            table = likelihood.table([names.names[i] for i in row], answer, weight)
            out[at] = out[at].told(answer.prompt, table, failure)
            if failure is None:
                out[at] = take(out[at], int(row[np.argmax(answer.scores(weight, mean=True))]))
        return out

    def _offered(self, name: str) -> likelihood.Names:
        """Return what the named prompt may choose from: items to cite, or attribute values."""
        if name not in self._names:
            alone = likelihood.Wording.of(self._cites[name], item="", cited="")
            if name == "cite":
                self._names[name] = likelihood.Names(self.names_, alone, self.order_)
            else:
                values = [value for _, value in self.values_]
                self._names[name] = likelihood.Names(values, alone, np.arange(len(values)))
        return self._names[name]

    def _cite(self, draft: _Draft, cited: int) -> _Draft:
        """Cite a history item, and of the values shared with it the rarest."""
        codes = draft.options[cited]
        if cited == draft.evidence.cited:
            return draft
        column, value = self.values_[codes[0]] if codes else (None, None)
        return replace(draft, evidence=Evidence(draft.evidence.item, cited, column, value))

    def _shared(self, draft: _Draft) -> Sequence[int]:
        return () if draft.evidence.cited is None else draft.options[draft.evidence.cited]

    def _state(self, draft: _Draft, code: int) -> _Draft:
        column, value = self.values_[code]
        return replace(draft, evidence=replace(draft.evidence, attribute=column, value=value))

    def _words(self, draft: _Draft) -> dict[str, str]:
        e = draft.evidence
        return {
            "item": self.names_[e.item],
            "cited": "" if e.cited is None else self.names_[e.cited],
            "value": e.value or "",
        }

    def _ask(self, draft: _Draft) -> tuple[Message, ...]:
        return self._asks(**self._words(draft))

    # -- json ---------------------------------------------------------------------------
    def _written(self, drafts: list[_Draft]) -> list[tuple[_Draft, Explanation | None]]:
        """Ask for history item, value and sentence at once."""
        requests = []
        for draft in drafts:
            cites = [self.names_[cited] for cited in draft.options]
            values = [self.values_[code][1] for code in self._own(draft)]
            turns = self._asks(cites=cites, values=values, item=self.names_[draft.evidence.item])
            bound = self.config.max_tokens + 32
            requests.append(ChatRequest(turns, schema=_SCHEMA, max_tokens=bound))
        return self._asked(drafts, requests)

    def _own(self, draft: _Draft) -> list[int]:
        """Return the codes of the recommended item's values."""
        item = draft.evidence.item
        return [int(c) for c in self.attributes_.indices[self.attributes_.indptr[item] : self.attributes_.indptr[item + 1]]]

    def _resolved(self, draft: _Draft, value: Mapping[str, Any]) -> _Draft:
        """Return the draft with the evidence that the answer's numbers name, or with a failure."""
        cites, codes = list(draft.options), self._own(draft)
        history, attribute = value["history"], value["attribute"]
        if not (0 <= history <= len(cites) and 0 <= attribute <= len(codes)):
            return replace(draft, failure="out_of_range")
        cited = cites[history - 1] if history else None
        code = codes[attribute - 1] if attribute else None
        if cited is None and code is None:
            return replace(draft, failure="missing_evidence")
        if cited is not None and code is not None and code not in draft.options[cited]:
            return replace(draft, failure="unsupported_claim")
        column, name = (None, None) if code is None else self.values_[code]
        return replace(draft, evidence=Evidence(draft.evidence.item, cited, column, name))

    # -- judging ------------------------------------------------------------------------
    def _asked(self, drafts: list[_Draft], requests: list[ChatRequest]) -> list[tuple[_Draft, Explanation | None]]:
        """Ask for sentences and judge them; what does not hold is asked for once more."""
        replies = self._model().chat(requests) if requests else []
        out = [self._judged(d, q, r) for d, q, r in zip(drafts, requests, replies, strict=True)]
        again = [at for at, (draft, _) in enumerate(out) if self.config.repair and draft.failure in _REPAIRABLE]
        repairs = [self._repair(requests[at], out[at][0]) for at in again]
        replies = self._model().chat(repairs) if repairs else []
        for at, request, reply in zip(again, repairs, replies, strict=True):
            first = out[at][0]
            fresh = replace(drafts[at], prompts=first.prompts, answers=first.answers, written=first.written)
            out[at] = self._judged(fresh, replace(request, messages=request.messages[-1:]), reply)
        return out

    def _repair(self, request: ChatRequest, draft: _Draft) -> ChatRequest:
        """Return the question about a sentence that does not hold, with what is wrong in it.

        A small model copies an answer that it is shown, so "choose" puts the question anew, in another order.
        """
        turns = self._asks_again(wrong=draft.wrong, **self._words(draft))
        if self.config.mode == "choose":
            return replace(request, messages=turns)
        said = Message("assistant", draft.answers[-1] or "(no answer)")
        return replace(request, messages=(*request.messages, said, *turns))

    def _judged(self, draft: _Draft, request: ChatRequest, reply: ChatReply) -> tuple[_Draft, Explanation | None]:
        """Return the explanation that a reply makes, or None with the failure in the draft."""
        draft = draft.told(spelt(request.messages), reply.text or reply.detail)
        if reply.failure is not None and (reply.failure != "truncated" or self.config.mode == "json"):
            return replace(draft, failure=reply.failure), None
        text = reply.text
        if self.config.mode == "json":
            draft, text = self._resolved(draft, reply.value), reply.value["sentence"]
            if draft.failure is not None:
                return replace(draft, written=(*draft.written, text)), None
        finding = self._checks().check(text, draft.evidence, cut=reply.failure == "truncated")
        if finding.failure is None:
            return draft, Explanation(draft.evidence.item, finding.sentence, finding.claims)
        written = (*draft.written, finding.sentence)
        return replace(draft, failure=finding.failure, written=written, wrong=finding.wrong), None

    def _checks(self) -> Checker:
        if self._checker is None:
            has = (self.attributes_.indptr, self.attributes_.indices)
            self._checker = Checker(self.names_, self.values_, has, self.config.did)
        return self._checker

    def _model(self) -> ChatModel:
        if self._llm is None:
            raise ModelError(
                "LLMExplainer was made without a language model", todo="use LLMExplainer.create(config, resources)"
            )
        return self._llm
