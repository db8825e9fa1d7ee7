"""A language model ranks candidates: one ranker of interchangeable parts.

A *strategy* describes the user (:mod:`.prompts`), a *scoring* asks and reads (:mod:`.titles`,
:mod:`.choice`, :mod:`.generate`, :mod:`.yesno`, :mod:`.pairs`), a *window* splits long lists
(:mod:`.window`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Component, Dataset, Lists, ModelError, Note, Queries, Resources
from llm4rec.llm.prompts import delimit, plain
from llm4rec.llm.values import ChatModel
from llm4rec.metrics import evaluate
from llm4rec.prompted import likelihood
from llm4rec.prompted.items import item_names
from llm4rec.prompted.rank.choice import Choice
from llm4rec.prompted.rank.config import LLMRankerConfig
from llm4rec.prompted.rank.generate import Generate
from llm4rec.prompted.rank.pairs import Pairs
from llm4rec.prompted.rank.prompts import Wordings, nobody
from llm4rec.prompted.rank.question import Judge, Question, Verdict
from llm4rec.prompted.rank.titles import Titles
from llm4rec.prompted.rank.window import Sliding, Tournament, Whole, Window
from llm4rec.prompted.rank.yesno import YesNo

#: Prior weights among which ``prior_weight = "auto"`` chooses.
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


class LLMRanker(Component[LLMRankerConfig]):
    """Ranks candidates with a language model.

    What a prompt lists stands in orders that depend on the question's content alone, never on the
    order of retrieval.  Where the scoring has a prior, ``score - prior_weight * prior`` ranks.

    Answers that cannot be read are counted by kind in the notes.  A candidate that no answer
    placed stands behind all others, in an order drawn by hash, and is told in ``dropped``; if
    there is no usable answer at all, the candidates get equal scores and the note says
    ``unranked``.  Every listing that was asked is told in ``trials``.
    """

    def __init__(self, config: LLMRankerConfig | None = None, llm: ChatModel | None = None) -> None:
        super().__init__(config)
        self._llm = llm
        c = self.config
        words = {"things": c.things, "did": c.did}
        self._wordings = Wordings.of(c.scoring, c.strategy, c.template, c.history_template, words)
        self._judge: Judge | None = None
        windows: dict[str, Window] = {
            "all": Whole(),
            "sliding": Sliding(c.window_size, c.step, c.passes),
            "tournament": Tournament(c.window_size, c.advance),
        }
        self._window = windows[c.window]

    @classmethod
    def create(cls, config: LLMRankerConfig, resources: Resources) -> Self:
        """Build with the language model named in the config."""
        return cls(config, resources.llm(config.llm))

    # -- fitting ------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Keep the items' names and details; with ``prior_weight = "auto"`` choose the weight on validation cases.

        These rank their own candidates where they have them (cases whose truth is not among them say
        nothing), else the true item among random unseen ones.
        """
        c = self.config
        self._judge = None
        item = c.item or ("{title} ({year})" if "year" in train.item_table.columns else "{title}")
        self.names_ = item_names(train.item_table, item, max_chars=c.max_chars, articles=c.articles)
        self.lines_ = self.names_
        if c.details is not None:
            said = item_names(train.item_table, c.details, max_chars=c.details_chars, articles=False, nameless="")
            quoted = [f" {delimit(text, c.details_chars)}" if text else "" for text in said]
            self.lines_ = [name + more for name, more in zip(self.names_, quoted, strict=True)]
        self.order_ = np.argsort(-train.item_counts, kind="stable")
        self.weights_: dict[str, float] = {}
        self.prior_weight_ = float(c.prior_weight) if isinstance(c.prior_weight, float) else c.default_prior
        if c.prior_weight == "auto" and valid is not None and len(valid):
            self._tune(valid)
        return self

    def _tune(self, valid: Cases) -> None:
        """Take the prior weight with the best NDCG of the true items."""
        cases, candidates = self._tuning_cases(valid)
        for weight, lists in self.variants(cases.queries, candidates).items() if len(cases) else ():
            metric = f"ndcg@{max(1, lists.k)}"
            self.weights_[str(weight)] = float(np.mean(evaluate(lists, cases.truth, [metric])[metric]))
        if self.weights_:
            self.settle(max(WEIGHTS, key=lambda weight: self.weights_[str(weight)]))

    def _tuning_cases(self, valid: Cases) -> tuple[Cases, Lists]:
        """Return drawn validation cases, and the candidates of each in no order."""
        rng = np.random.default_rng(self.config.seed)
        drawn = rng.permutation(len(valid))
        if valid.candidates is not None:
            pools = valid.candidates
            drawn = np.array([row for row in drawn if np.isin(valid.truth[row], pools[row]).any()], dtype=np.int64)
        cases = valid.take(np.sort(drawn[: self.config.tune_cases]))
        rows = []
        for row, (true, seen) in enumerate(zip(cases.truth, cases.seen, strict=True)):
            if cases.candidates is not None:
                rows.append(np.sort(cases.candidates[row]))
            else:
                unseen = np.setdiff1d(np.arange(len(self.names_)), np.append(seen, true))
                rows.append(np.sort(np.append(rng.permutation(unseen)[: self.config.tune_negatives], true[0])))
        items = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
        for row, pool in enumerate(rows):
            items[row, : len(pool)] = pool
        return cases, Lists(items, np.where(items < 0, np.nan, 0.0))

    # -- ranking ------------------------------------------------------------------------
    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return the candidates in the model's order, with failures, exchanges and listings in the notes."""
        pools, questions = self._questions(queries, candidates)
        return self._lists(candidates, pools, questions, self._verdicts(questions, self.prior_weight_), self.prior_weight_)

    # -- what a pipeline can choose -------------------------------------------------------
    @property
    def unsettled(self) -> bool:
        """Is the weight of the prior to be chosen?"""
        return self.config.prior_weight == "auto"

    def variants(self, queries: Queries, candidates: Lists) -> Mapping[float, Lists]:
        """Return what ``rank`` would give under each prior weight.

        All at once are asked once for all weights; windows are asked anew under each, since who
        moves on depends on it (what does not change comes from the store).
        """
        pools, questions = self._questions(queries, candidates)
        verdicts: dict[float, list[Verdict]] = {}
        if self.config.window == "all":
            verdicts = dict.fromkeys(WEIGHTS, self._verdicts(questions, max(WEIGHTS)))
        else:
            verdicts = {weight: self._verdicts(questions, weight) for weight in WEIGHTS}
        return {weight: self._lists(candidates, pools, questions, verdicts[weight], weight) for weight in WEIGHTS}

    def settle(self, setting: float) -> None:
        """Take one of the prior weights of ``variants``."""
        self.prior_weight_ = setting

    # -- asking -------------------------------------------------------------------------
    def _questions(self, queries: Queries, candidates: Lists) -> tuple[list[NDArray[np.int32]], list[Question]]:
        """Return the candidates of each row in order of inside id, and a question for each."""
        c = self.config
        lines, names = self.lines_, self.names_  # read here, so that an unfitted ranker says so even without candidates
        past = names if c.details_of == "candidates" else lines
        shown = names if c.details_of == "history" else lines
        pools, questions = [], []
        for row, listed in enumerate(candidates.to_ragged()):
            order = np.argsort(listed)
            pool = listed[order]
            history = queries.history[row]
            question = Question.of(
                [past[int(i)] for i in history[max(0, len(history) - c.history) :]],
                [shown[int(i)] for i in pool],
                ids=pool.tolist(),
                request=plain(queries.texts[row], 10 * c.max_chars) if queries.texts else "",
                profile=plain(queries.profiles[row], c.profile_chars) if queries.profiles and c.profile_chars else "",
                time=int(queries.times[row]),
                seed=c.seed,
            )
            if c.start == "retrieved":
                question = replace(question, start=tuple(np.argsort(order).tolist()))
            pools.append(pool)
            questions.append(question)
        return pools, questions

    def _verdicts(self, questions: list[Question], weight: float) -> list[Verdict]:
        """Return a verdict on each question; one without candidates is not asked."""
        asked = [at for at, question in enumerate(questions) if question.ids]
        nothing = Verdict(np.empty(0), np.empty(0))
        verdicts = [nothing] * len(questions)
        if asked:
            told = self._window.rank([questions[at] for at in asked], self._judged_by(), weight)
            for at, verdict in zip(asked, told, strict=True):
                verdicts[at] = verdict
        return verdicts

    def _judged_by(self) -> Judge:
        """Return the part that asks; it keeps the priors that it has asked for."""
        c = self.config
        if self._llm is None:
            raise ModelError("LLMRanker was made without a language model", todo="use LLMRanker.create(config, resources)")
        if self._judge is None:
            if c.scoring == "likelihood":
                alone = self._wordings.likelihood(nobody(Question.of((), ())))
                names = likelihood.Names(self.names_, alone, self.order_)
                self._judge = Titles(self._llm, self._wordings, names, c.normalise == "mean")
            elif c.scoring == "choice":
                self._judge = Choice(self._llm, self._wordings, c.permutations)
            elif c.scoring == "generate":
                self._judge = Generate(self._llm, self._wordings, c.permutations, c.max_tokens)
            elif c.scoring == "yes-no":
                self._judge = YesNo(self._llm, self._wordings)
            else:
                self._judge = Pairs(self._llm, self._wordings, c.compare, c.answers, c.max_tokens or 24)
        return self._judge

    def _lists(
        self,
        candidates: Lists,
        pools: list[NDArray[np.int32]],
        questions: list[Question],
        verdicts: list[Verdict],
        weight: float,
    ) -> Lists:
        """Return verdicts as lists with notes."""
        items = np.full(candidates.items.shape, -1, np.int32)
        scores = np.full(candidates.items.shape, np.nan, np.float32)
        notes = [Note()] * len(candidates)
        for row, (pool, question, verdict) in enumerate(zip(pools, questions, verdicts, strict=True)):
            if len(pool):
                items[row, : len(pool)] = pool
                scores[row, : len(pool)], notes[row] = self._placed(question, verdict, weight)
        ranked = Lists.from_pools(items, scores)
        return Lists(ranked.items, ranked.scores, tuple(notes))

    def _placed(self, question: Question, verdict: Verdict, weight: float) -> tuple[NDArray[np.float64], Note]:
        """Return finite scores for all candidates, and the note about them."""
        scores, failures = verdict.less(weight).copy(), verdict.failures
        lost = ~np.isfinite(scores)
        dropped: dict[int, str] = {}
        if lost.all():
            scores[:] = 0.0
            failures += ("unranked",)
        elif lost.any():
            scores[lost] = scores[~lost].min() - 1.0 - question.lottery()[lost]
            dropped = {item: "not placed by the model" for item, gone in zip(question.ids, lost, strict=True) if gone}
        return scores, Note(failures, dropped, verdict.exchanges[: self.config.exchanges], verdict.trials)
