"""Which of two lists, or two explanations, does a language model prefer, and is its word worth anything?

Every pair is shown in both orders, several times each. What the judge says is believed only as far as it
holds: a pair counts for one side if that side is preferred in both orders, else it is a tie by position; an answer that cannot
be read is counted and decides nothing. Two controls calibrate the judge: pairs whose sides are identical (a preference
there is bias alone), and pairs of which one side is known to be better (how often is it found?).
Source: Zheng et al., *Judging LLM-as-a-judge*, NeurIPS 2023, arXiv 2306.05685 (order swapping, position bias).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Config
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest
from llm4rec.metrics.agreement import agreement, cohen_kappa, fleiss_kappa
from llm4rec.prompted.wording import Template, load_prompt

Verdict = Literal["a", "b", "tie"]
_LABELS: tuple[Verdict, ...] = ("a", "b", "tie")
_TEMPLATE = Path(__file__).with_name("compare.j2")
_SCHEMA = {
    "type": "object",
    "properties": {"better": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["better"],
    "additionalProperties": False,
}


class JudgeConfig(Config):
    """Parameters of a judge."""

    kind: str = "lists of films"
    """What is compared, in words."""
    repeats: int = Field(3, ge=1)
    """Times that each order is judged."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Of the model; without any, repeats are equal."""
    max_tokens: int = Field(40, ge=8)
    """Longest answer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two things to choose between.

    Attributes:
        about: lines on the person.
        a, b: lines of each side.
    """

    about: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on one pair: ``repeats`` with a shown first, then as many with b first; None where unreadable."""

    a_first: tuple[Verdict | None, ...]
    b_first: tuple[Verdict | None, ...]
    failures: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """What both orders say by majority of their readable verdicts; a tie where they differ, None where one is silent."""
        sides = [_majority(side) for side in (self.a_first, self.b_first)]
        if None in sides:
            return None
        return sides[0] if sides[0] == sides[1] else "tie"


class Judge:
    """Compares pairs by a chat model; one batch of calls.

    Args:
        model: who judges.
        config: parameters.
    """

    def __init__(self, model: ChatModel, config: JudgeConfig | None = None) -> None:
        self.config = config or JudgeConfig.model_validate({})
        self._model = model
        self._template = Template(
            load_prompt("compare", _TEMPLATE), {"kind": "text", "about": "lines", "first": "lines", "second": "lines"},
            needs=("first", "second"),
        )  # fmt: skip

    def judge(self, pairs: Sequence[Pair]) -> list[Judged]:
        """Return the verdicts on each pair."""
        orders = [(pair, swapped, n) for pair in pairs for swapped in (False, True) for n in range(self.config.repeats)]
        replies = self._model.chat([self._request(*order) for order in orders])
        verdicts = [_read(reply, swapped) for reply, (_, swapped, _) in zip(replies, orders, strict=True)]
        failures = [reply.failure for reply in replies]
        m, out = self.config.repeats, []
        for at in range(0, len(orders), 2 * m):
            wrong = tuple(str(f) for f in failures[at : at + 2 * m] if f is not None)
            out.append(Judged(tuple(verdicts[at : at + m]), tuple(verdicts[at + m : at + 2 * m]), wrong))
        return out

    def _request(self, pair: Pair, swapped: bool, sample: int) -> ChatRequest:
        first, second = (pair.b, pair.a) if swapped else (pair.a, pair.b)
        messages = self._template.messages(
            kind=self.config.kind, about=list(pair.about), first=list(first), second=list(second)
        )
        c = self.config
        return ChatRequest(messages, _SCHEMA, c.temperature, c.max_tokens, sample=sample, guided=True)


@dataclass(frozen=True, slots=True)
class Preference:
    """What a judge's verdicts on many pairs come to.

    Attributes:
        values: float64[n]: 1 for a, 0 for b, .5 for a tie; nan where a pair was not decided.
        verdicts: how many pairs went to each side, to neither, or stayed ``undecided``.
        unreadable: answers that could not be read, of ``answers``.
        first: share of readable verdicts for the side shown first, of those that name a side; .5 without bias.
        consistency: share of pairs on which the two orders agree.
        order_kappa: Cohen's kappa between the two orders.
        repeat_kappa: Fleiss' kappa between repeats of one order (pairs whose repeats were all readable).
    """

    values: NDArray[np.float64]
    verdicts: dict[str, int]
    answers: int
    unreadable: int
    first: float
    consistency: float
    order_kappa: float
    repeat_kappa: float

    @property
    def share(self) -> float:
        """Mean preference for a over the decided pairs; .5 for neither."""
        known = self.values[~np.isnan(self.values)]
        return float(known.mean()) if len(known) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        names = ("answers", "unreadable", "first", "consistency", "order_kappa", "repeat_kappa", "share")
        figures = {name: getattr(self, name) for name in names}
        return {k: None if v != v else v for k, v in figures.items()} | {"verdicts": self.verdicts}


def preference(judged: Sequence[Judged]) -> Preference:
    """Return what verdicts come to."""
    worth = {"a": 1.0, "b": 0.0, "tie": 0.5, None: float("nan")}
    final = [j.verdict for j in judged]
    every = [v for j in judged for v in (*j.a_first, *j.b_first)]
    chose_first = [v == "a" for j in judged for v in j.a_first if v in ("a", "b")]
    chose_first += [v == "b" for j in judged for v in j.b_first if v in ("a", "b")]
    sides = [(x, y) for j in judged if (x := _majority(j.a_first)) is not None and (y := _majority(j.b_first)) is not None]
    ones, others = [x for x, _ in sides], [y for _, y in sides]
    repeats = [row for j in judged for row in (j.a_first, j.b_first) if None not in row]
    counts = np.array([[row.count(label) for label in _LABELS] for row in repeats], dtype=np.int64).reshape(-1, len(_LABELS))
    return Preference(
        np.array([worth[v] for v in final]),
        dict(Counter("undecided" if v is None else v for v in final)),
        len(every),
        sum(v is None for v in every),
        float(np.mean(chose_first)) if chose_first else float("nan"),
        agreement(ones, others),
        cohen_kappa(ones, others),
        fleiss_kappa(counts),
    )


def _majority(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """Return the most frequent readable verdict; a tie where two are, None where there is none."""
    counts = Counter(v for v in verdicts if v is not None).most_common()
    if not counts:
        return None
    return "tie" if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]


def _read(reply: ChatReply, swapped: bool) -> Verdict | None:
    """Return the verdict of an answer in terms of the pair, None where there is none."""
    if reply.failure is not None or not isinstance(reply.value, dict):
        return None
    chosen: dict[str, Verdict] = {"A": "b" if swapped else "a", "B": "a" if swapped else "b", "tie": "tie"}
    return chosen.get(str(reply.value.get("better")))
