"""A language model ranks candidates: by likelihood, by choice, or by writing the order."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Component, Config, Dataset, Exchange, Lists, ModelError, Note, Queries, Resources
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatModel
from llm4rec.prompted import likelihood
from llm4rec.prompted.items import item_names
from llm4rec.prompted.rank import choice, generate
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import load_prompt

#: Prior weights among which ``prior_weight = "auto"`` chooses.
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


class LLMRankerConfig(Config):
    """Parameters of :class:`LLMRanker`."""

    llm: str = "embedded"
    """Name of the language model among the run's resources."""
    scoring: Literal["likelihood", "choice", "generate"] = "likelihood"
    """How candidates are judged: by the likelihood of their names after the history (small models);
    by the log-probability of their labels in a list; or by the order that the model writes (servers)."""
    item: str | None = None
    """Template of an item's name in the prompt, over the columns of the item table; by default the
    title, with the year where there is one (a small model ranks far better with it)."""
    articles: bool = True
    """Move a trailing article to the front: "Godfather, The" becomes "The Godfather"."""
    max_chars: int = Field(100, ge=8, le=200)
    """Longest name of an item in a prompt, in characters."""
    things: str = "movies"
    """What the items are, in the plural."""
    did: str = "watched"
    """What users have done with them."""
    history: int = Field(10, ge=0, le=200)
    """Number of the most recent history items in the prompt."""
    template: str | None = None
    """Path of a jinja template that replaces the built-in one of the chosen scoring."""
    normalise: Literal["sum", "mean"] = "mean"
    """Likelihood of a name in total ("sum") or for each token ("mean")."""
    prior_weight: Annotated[float, Field(ge=0.0, le=2.0)] | Literal["auto"] = 0.3
    """Weight of the likelihood without a history, which is subtracted; "auto" chooses it on validation cases."""
    tune_cases: int = Field(50, ge=1)
    """Largest number of validation cases used by "auto"."""
    tune_negatives: int = Field(19, ge=1)
    """Random unseen items beside the true one in each case used by "auto"."""
    permutations: int = Field(3, ge=1, le=100)
    """Orders in which a list is asked ("choice", "generate"); their scores are averaged."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest written order in tokens ("generate"); by default 8 for each candidate and 32 more."""
    seed: int = Field(0, ge=0)
    """Seed of the orders in which candidates are listed."""
    exchanges: int = Field(8, ge=0)
    """Prompts and answers kept for each query, for the report."""


class LLMRanker(Component[LLMRankerConfig]):
    """Ranks candidates with a language model.

    Likelihood: ``log p(name | history) - w log p(name)``, see :mod:`llm4rec.prompted.likelihood`.
    Choice and generate list the candidates in several orders that depend on the question's
    content alone, never on the order of retrieval (Hou et al., "Large language models are
    zero-shot rankers for recommender systems", ECIR 2024, arXiv 2305.08845).

    Answers that cannot be read are counted by kind in the notes.  A candidate that no answer
    placed stands behind all others, in an order drawn by hash, and is told in ``dropped``; if
    there is no usable answer at all, the candidates get equal scores and the note says
    ``unranked``.
    """

    def __init__(self, config: LLMRankerConfig | None = None, llm: ChatModel | None = None) -> None:
        super().__init__(config)
        self._llm = llm
        prompt = load_prompt(self.config.scoring, self.config.template)
        words = {"things": self.config.things, "did": self.config.did}
        self._text, self._messages = partial(prompt.text, **words), partial(prompt.messages, **words)
        self._names: likelihood.Names | None = None

    @classmethod
    def create(cls, config: LLMRankerConfig, resources: Resources) -> Self:
        """Build with the language model named in the config."""
        return cls(config, resources.llm(config.llm))

    # -- fitting ------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Keep the items' names; with ``prior_weight = "auto"`` choose the weight on validation cases."""
        c = self.config
        self._names = None
        item = c.item or ("{title} ({year})" if "year" in train.item_table.columns else "{title}")
        self.names_ = item_names(train.item_table, item, max_chars=c.max_chars, articles=c.articles)
        self.order_ = np.argsort(-train.item_counts, kind="stable")
        self.weights_: dict[str, float] = {}
        if c.prior_weight != "auto":
            self.prior_weight_ = float(c.prior_weight)
        elif c.scoring == "likelihood" and valid is not None and len(valid):
            self.prior_weight_ = self._tuned(valid)
        else:
            self.prior_weight_ = 0.3
        return self

    def _tuned(self, valid: Cases) -> float:
        """Return the prior weight with the best NDCG of the true item among random unseen ones."""
        rng = np.random.default_rng(self.config.seed)
        cases = valid.take(np.sort(rng.permutation(len(valid))[: self.config.tune_cases]))
        truth = np.array([row[0] for row in cases.truth])
        pools = []
        for true, seen in zip(truth, cases.seen, strict=True):
            unseen = np.setdiff1d(np.arange(len(self.names_)), np.append(seen, true))
            pools.append(np.append(rng.permutation(unseen)[: self.config.tune_negatives], true))
        pools = [np.sort(pool) for pool in pools]
        questions = [self._question(self.names_, cases.queries, row, pool) for row, pool in enumerate(pools)]
        answers = self._likelihoods(questions, pools, alone=True)
        for weight in WEIGHTS:
            gains = []
            for answer, pool, true in zip(answers, pools, truth, strict=True):
                scores = answer.scores(weight, mean=self.config.normalise == "mean")
                own = scores[pool == true][0]
                if np.isfinite(own):
                    gains.append(1 / np.log2(2 + (scores > own).sum() + ((scores == own).sum() - 1) / 2))
            self.weights_[str(weight)] = float(np.mean(gains)) if gains else 0.0
        return max(WEIGHTS, key=lambda weight: self.weights_[str(weight)])

    # -- ranking ------------------------------------------------------------------------
    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return the candidates in the model's order, with failures and exchanges in the notes."""
        pools = [np.sort(row) for row in candidates.to_ragged()]
        asked = [row for row, pool in enumerate(pools) if len(pool)]
        names = self.names_  # read here, so that an unfitted ranker says so even without candidates
        questions = [self._question(names, queries, row, pools[row]) for row in asked]
        verdicts = dict(zip(asked, self._verdicts(questions, [pools[row] for row in asked]), strict=True))
        items = np.full(candidates.items.shape, -1, np.int32)
        scores = np.full(candidates.items.shape, np.nan, np.float32)
        notes = [Note()] * len(candidates)
        for row, question in zip(asked, questions, strict=True):
            pool = pools[row]
            items[row, : len(pool)] = pool
            scores[row, : len(pool)], notes[row] = self._placed(question, verdicts[row], pool)
        ranked = Lists.from_pools(items, scores)
        return Lists(ranked.items, ranked.scores, tuple(notes))

    def _verdicts(self, questions: list[Question], pools: list[NDArray[Any]]) -> list[Verdict]:
        c, model = self.config, self._model()
        if not questions:
            return []
        if c.scoring == "choice":
            return choice.rank(model, questions, self._messages, c.permutations)
        if c.scoring == "generate":
            return generate.rank(model, questions, self._messages, c.permutations, c.max_tokens)
        answers = self._likelihoods(questions, pools, alone=self.prior_weight_ > 0)
        mean = c.normalise == "mean"
        return [_verdict(q, a, self.prior_weight_, mean=mean) for q, a in zip(questions, answers, strict=True)]

    def _likelihoods(
        self, questions: list[Question], pools: list[NDArray[Any]], *, alone: bool
    ) -> list[likelihood.Likelihoods]:
        if self._names is None:
            without = likelihood.Wording.of(self._text, history=(), request="")
            self._names = likelihood.Names(self.names_, without, self.order_)
        wordings = [likelihood.Wording.of(self._text, history=q.history, request=q.request) for q in questions]
        return likelihood.ask(self._model(), self._names, wordings, pools, alone=alone)

    def _placed(self, question: Question, verdict: Verdict, pool: NDArray[np.int32]) -> tuple[NDArray[np.float64], Note]:
        """Return finite scores for all candidates, and the note about them."""
        scores, failures = verdict.scores.copy(), verdict.failures
        lost = ~np.isfinite(scores)
        dropped: dict[int, str] = {}
        if lost.all():
            scores[:] = 0.0
            failures += ("unranked",)
        elif lost.any():
            scores[lost] = scores[~lost].min() - 1.0 - question.lottery()[lost]
            dropped = {int(item): "not placed by the model" for item in pool[lost]}
        return scores, Note(failures, dropped, verdict.exchanges[: self.config.exchanges])

    def _question(self, names: list[str], queries: Queries, row: int, pool: NDArray[Any]) -> Question:
        c = self.config
        history = queries.history[row]
        return Question.of(
            tuple(names[int(i)] for i in history[max(0, len(history) - c.history) :]),
            tuple(names[int(i)] for i in pool),
            plain(queries.texts[row], 10 * c.max_chars) if queries.texts else "",
            int(queries.times[row]),
            c.seed,
        )

    def _model(self) -> ChatModel:
        if self._llm is None:
            raise ModelError("LLMRanker was made without a language model", todo="use LLMRanker.create(config, resources)")
        return self._llm


def _verdict(question: Question, likelihoods: likelihood.Likelihoods, weight: float, *, mean: bool) -> Verdict:
    """Return the scores of one question's candidates."""
    failure = likelihoods.failures[0] if likelihoods.failures else None
    exchange = Exchange(likelihoods.prompt, likelihood.table(question.candidates, likelihoods, weight), failure)
    return Verdict(likelihoods.scores(weight, mean=mean), likelihoods.failures, (exchange,))
