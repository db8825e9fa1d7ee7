"""Pointwise ranking: will the user choose this candidate, yes or no?

    score(c | h) = log p(Yes | prompt of h and c) - log p(No | prompt of h and c)

One request a candidate; a candidate's score does not depend on the others.  Its prior is the same
for a user of whom nothing is known (contextual calibration; Zhao et al., "Calibrate before use",
ICML 2021, arXiv 2102.09690): models say yes to what is well known, and some say it to everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llm4rec.core import Exchange
from llm4rec.llm.values import ChatModel, ScoreReply, ScoreRequest
from llm4rec.prompted.rank.prompts import Wordings, nobody
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import spelt

ANSWERS = ("Yes", "No")


@dataclass(frozen=True)
class YesNo:
    """Judges by the log-odds of Yes.

    Args:
        model: gives log-probabilities.
        wordings: with a yes-no template.
    """

    model: ChatModel
    wordings: Wordings
    _priors: dict[str, float] = field(default_factory=dict)

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge by one request for each candidate; the priors are asked once for each candidate's line."""
        requests = [self._asks(question, line) for question in questions for line in question.candidates]
        replies = iter(zip(requests, self.model.score(requests), strict=True))
        lost = self._ask_priors(questions) if prior else {}
        verdicts = []
        for question in questions:
            answers = [next(replies) for _ in question.candidates]
            scores = np.array([_log_odds(reply) for _, reply in answers])
            priors = (
                np.array([self._priors.get(line, np.nan) for line in question.candidates]) if prior else np.zeros(len(scores))
            )
            failures = [kind for _, reply in answers if (kind := _failure(reply)) is not None]
            failures += [lost[line] for line in question.candidates if line in lost]
            exchanges = [
                Exchange(
                    spelt(request.prompt), reply.detail if reply.failure else f"log-odds of Yes: {score:.3f}", _failure(reply)
                )
                for (request, reply), score in zip(answers, scores, strict=True)
                if not isinstance(request.prompt, str)
            ]
            trial = question.trial(range(len(scores)), scores)
            verdicts.append(Verdict(scores, priors, tuple(failures), tuple(exchanges), (trial,)))
        return verdicts

    def _asks(self, question: Question, line: str) -> ScoreRequest:
        return ScoreRequest(self.wordings.messages(question, candidate=line), ANSWERS)

    def _ask_priors(self, questions: Sequence[Question]) -> dict[str, str]:
        """Ask the log-odds of lines for nobody; return line -> failure of those that have none."""
        wanted = {line: question for question in questions for line in question.candidates if line not in self._priors}
        replies = self.model.score([self._asks(nobody(question), line) for line, question in wanted.items()]) if wanted else []
        lost = {}
        for line, reply in zip(wanted, replies, strict=True):
            if (kind := _failure(reply)) is not None:
                lost[line] = kind
            else:
                self._priors[line] = _log_odds(reply)
        return lost


def _log_odds(reply: ScoreReply) -> float:
    """Return ``log p(Yes) - log p(No)``, nan where one of them is unknown."""
    if reply.failure is not None or not np.isfinite(reply.logprobs).all():
        return float("nan")
    return float(reply.logprobs[0] - reply.logprobs[1])


def _failure(reply: ScoreReply) -> str | None:
    if reply.failure is not None:
        return reply.failure
    return None if np.isfinite(reply.logprobs).all() else "missing_logprob"
