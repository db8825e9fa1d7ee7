"""From a question to a prompt: the strategy says how the user is described, the scoring what is asked.

Strategies are those of LLMRank (Hou et al., "Large language models are zero-shot rankers for
recommender systems", ECIR 2024, arXiv 2305.08845): the history in order (sequential), the same
with its end named again (recent), and the end as a worked example of the question (in-context).
A profile and what the user asks for in words join each of them, where the query has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from llm4rec.llm.values import Message
from llm4rec.prompted.likelihood import Wording
from llm4rec.prompted.rank.question import Question
from llm4rec.prompted.wording import Kind, Template, load_prompt

Strategy = Literal["sequential", "recent", "in-context"]

#: What the description of a history may name.
HISTORY: dict[str, Kind] = {"history": "lines", "things": "text", "did": "text"}
#: What every question may name besides its candidates; ``user`` is the filled-in description of the history.
_QUERY: dict[str, Kind] = {"history": "lines", "profile": "text", "request": "text", "things": "text", "did": "text"}
#: Scoring -> (variables of its template, those without which it cannot ask).
ASKED: dict[str, tuple[dict[str, Kind], tuple[str, ...]]] = {
    "likelihood": (_QUERY | {"candidate": "text"}, ("candidate",)),
    "choice": (_QUERY | {"user": "text", "candidates": "pairs"}, ("candidates",)),
    "generate": (_QUERY | {"user": "text", "candidates": "pairs"}, ("candidates",)),
    "pairs": (_QUERY | {"user": "text", "candidates": "pairs"}, ("candidates",)),
    "yes-no": (_QUERY | {"user": "text", "candidate": "text"}, ("candidate",)),
}

#: What a user is replaced by in a prompt without content (Zhao et al., "Calibrate before use", ICML
#: 2021, arXiv 2102.09690, who average over such texts).
CONTENT_FREE = ("N/A", "[MASK]", "-")


@dataclass(frozen=True)
class Wordings:
    """The templates of one ranker.

    Args:
        template: of the question.
        history: of the user's history; None where the question itself describes it (likelihood).
        words: what things are called and what users do with them.
    """

    template: Template
    history: Template | None
    words: dict[str, str]

    @classmethod
    def of(
        cls, scoring: str, strategy: Strategy, template: Path | None, history: Path | None, words: dict[str, str]
    ) -> Wordings:
        """Read the built-in templates, or the user's at the given paths; raises ``SpecError``."""
        variables, needs = ASKED[scoring]
        if scoring == "likelihood":
            return cls(Template(load_prompt(f"likelihood/{strategy}", template), variables, needs), None, words)
        described = Template(load_prompt(f"history/{strategy}", history), HISTORY)
        return cls(Template(load_prompt(f"rank/{scoring}", template), variables, needs), described, words)

    def messages(self, question: Question, **asked: Any) -> tuple[Message, ...]:
        """Return the conversation that asks a question."""
        return self.template.messages(**self._values(question), **asked)

    def likelihood(self, question: Question) -> Wording:
        """Return the wording around a candidate's name."""
        return Wording.of(self.template.text, **self._values(question))

    def _values(self, question: Question) -> dict[str, Any]:
        values: dict[str, Any] = {
            "history": question.history, "profile": question.profile, "request": question.request, **self.words,
        }  # fmt: skip
        if self.history is not None:
            values["user"] = self.history.text(history=question.history, **self.words).strip()
        return values


def nobody(question: Question) -> Question:
    """Return a question about the same candidates by a user of whom nothing is known."""
    return replace(question, history=(), request="", profile="")


def content_free(question: Question, text: str, k: int) -> Question:
    """Return a question of the same form whose every line is a text without content."""
    history: Sequence[str] = (text,) * len(question.history)
    return Question.of(history, (text,) * k)
