"""Ranking by the likelihood of names: how probable is each candidate's name after the history?

See :mod:`llm4rec.prompted.likelihood`.  A candidate's score does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm4rec.core import Exchange
from llm4rec.llm.values import ChatModel
from llm4rec.prompted import likelihood
from llm4rec.prompted.rank.prompts import Wordings
from llm4rec.prompted.rank.question import Question, Verdict


@dataclass(frozen=True)
class Titles:
    """Judges by ``log p(name | history)``, in total or for each token; the prior is ``log p(name)``.

    Args:
        model: gives log-probabilities.
        wordings: with a likelihood template.
        names: of the catalogue, with their priors.
        mean: divide by the number of tokens.
    """

    model: ChatModel
    wordings: Wordings
    names: likelihood.Names
    mean: bool

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge by one request a question; the likelihoods alone are asked once for each name."""
        wordings = [self.wordings.likelihood(question) for question in questions]
        rows = [np.array(question.ids, dtype=np.int64) for question in questions]
        answers = likelihood.ask(self.model, self.names, wordings, rows, alone=prior)
        verdicts = []
        for question, answer in zip(questions, answers, strict=True):
            tokens = np.maximum(answer.tokens, 1) if self.mean else 1
            given = answer.given / tokens
            failure = answer.failures[0] if answer.failures else None
            names = [self.names.names[i] for i in question.ids]
            exchange = Exchange(answer.prompt, likelihood.table(names, answer, float(prior)), failure)
            trial = question.trial(range(len(given)), given)
            verdicts.append(Verdict(given, answer.alone / tokens, answer.failures, (exchange,), (trial,)))
        return verdicts
