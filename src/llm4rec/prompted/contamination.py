"""Does a language model know a data set by heart?

A model that has read the public files may rank well by remembering them.  Each test shows an
excerpt of a file whose last line is cut, and asks how the line goes on:

- ``titles``: from an item's id to its title;
- ``rows``: from the rows before it in the file to the item of the next row;
- ``attribute:COLUMN``: from an item's title to its year, genres, ...

The true continuation stands among foils of the same set: titles of other items, other items of the
same user, values of other items.  A model may still prefer it for other reasons (fame, a frequent
value, a shape), so every question is also asked with the wrong key before the cut: another id,
other rows, another title.  That is the chance level, and the difference over the same cases
is what the model knows.  Knowing ids or rows is memory of the file; knowing attributes may as well
be knowledge of the world, and the verdict says so.

Tests by id and by row follow Di Palma et al., "Do LLMs memorize recommendation datasets?", 2025,
arXiv 2505.10212, who count exact matches of what models write; those are counted here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, FailureKind, ScoreRequest
from llm4rec.metrics import Interval, bootstrap_interval
from llm4rec.prompted.excerpts import Case, ContaminationConfig, questions
from llm4rec.prompted.wording import load_prompt

Method = Literal["likelihood", "choice"]

#: Failures by which a backend says that it cannot score text after text.
_CANNOT_SCORE: frozenset[FailureKind] = frozenset({"rejected", "missing_logprob", "empty", "garbage"})
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"choice": {"type": "integer"}},
    "required": ["choice"],
    "additionalProperties": False,
}
_FEWEST = 10  # usable cases below which nothing is concluded


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test says.

    Attributes:
        test: its name.
        method: how the continuations were judged.
        cases: questions asked; those whose answer could not be used are in ``failures``.
        choices: mean number of continuations.
        measure: ``auc``, the share of foils that are less likely than the truth, or ``accuracy``,
            the share of cases in which the truth is chosen.
        score: of the measure, with the right key.
        chance: of the measure, with the wrong key.
        difference: of the two over the same cases.
        accuracy, accuracy_chance: share of cases in which the truth stands first, with the right
            and with the wrong key.
        written, written_chance: share of exact matches in what the model wrote, or None.
        found: does the model know it?  None if too few answers could be used.
        failures: kind of failure -> number of calls.
    """

    test: str
    method: Method
    cases: int
    choices: float
    measure: Literal["auc", "accuracy"]
    score: Interval
    chance: Interval
    difference: Interval
    accuracy: float
    accuracy_chance: float
    written: Interval | None
    written_chance: Interval | None
    found: bool | None
    failures: Mapping[str, int]

    @property
    def verdict(self) -> str:
        """What the test says, in one line."""
        return _words(self)


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """What is known about one model and one set.

    Attributes:
        model, dataset: their names.
        fingerprint: of the set.
        config: the parameters, as JSON values.
        findings: one for each test that could be made.
        left_out: test -> why it could not be made.
        verdict: one line.
    """

    model: str
    dataset: str
    fingerprint: str
    config: Mapping[str, Any]
    findings: tuple[Finding, ...]
    left_out: Mapping[str, str]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is unknown (nan) is None."""
        findings = [asdict(finding) | {"verdict": finding.verdict} for finding in self.findings]
        return dict(_finite(asdict(self) | {"findings": findings}))


def probe_contamination(model: ChatModel, dataset: Dataset, config: ContaminationConfig | None = None) -> ContaminationReport:
    """Ask a model what it knows of a data set by heart.

    Probe the set as it is published, unfiltered: ``rows`` are the rows of ``dataset.events`` in
    their order.

    Args:
        model: any; put the store and the meter around it as for a run.
        dataset: the whole set; nothing is learnt from it.
        config: the parameters.

    Raises:
        SpecError: for an attribute that the item table does not have.
    """
    config = config or ContaminationConfig()
    drawn: dict[str, list[Case]] = {}
    left_out: dict[str, str] = {}
    for at, (name, draw) in enumerate(questions(dataset, config)):
        made = draw(np.random.default_rng([config.seed, at]))
        if isinstance(made, str):
            left_out[name] = made
        else:
            drawn[name] = made
    findings = []
    if drawn:
        method = _method(model, config, next(iter(drawn.values()))[0])
        findings = [_finding(model, name, cases, method, config) for name, cases in drawn.items()]
    return ContaminationReport(
        model=model.name,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint(),
        config=config.model_dump(mode="json"),
        findings=tuple(findings),
        left_out=left_out,
        verdict=_verdict(findings, dataset.name),
    )


# -- answers ----------------------------------------------------------------------------


def _method(model: ChatModel, config: ContaminationConfig, case: Case) -> Method:
    """Return how continuations are judged; "auto" scores one of them to find out."""
    if config.method != "auto":
        return config.method
    reply = model.score([_score_request(case.shown, case)])[0]
    return "choice" if reply.failure in _CANNOT_SCORE else "likelihood"


def _score_request(shown: str, case: Case) -> ScoreRequest:
    return ScoreRequest(shown, tuple(f"{text}\n" for text in case.choices))  # ended, so that no beginning of another one gains


def _chat_request(shown: str, case: Case | None) -> ChatRequest:
    """Ask to choose, or without a case to write."""
    if case is None:
        return ChatRequest(load_prompt("contamination/write").messages(excerpt=shown), max_tokens=48)
    listed = list(enumerate(case.choices, start=1))
    turns = load_prompt("contamination/choice").messages(excerpt=shown, choices=listed)
    return ChatRequest(turns, schema=_SCHEMA, max_tokens=32)


def _finding(model: ChatModel, test: str, cases: Sequence[Case], method: Method, config: ContaminationConfig) -> Finding:
    """Ask all questions of one test, with the right and with the wrong key, and sum up."""
    failures: Counter[str] = Counter()
    judge = _likelihoods if method == "likelihood" else _chosen
    # float64[cases, 2]: right key, wrong key; nan where there is no usable answer.
    measured, first = judge(model, cases, failures)
    written = _written(model, cases[: config.written], failures)

    def interval(values: NDArray[np.float64]) -> Interval:
        return bootstrap_interval(values, level=config.level, rng=np.random.default_rng(config.seed))

    difference = interval(measured[:, 0] - measured[:, 1])
    found = None if difference.n < min(_FEWEST, len(cases)) or 2 * difference.n < len(cases) else difference.low > 0
    both = first[~np.isnan(measured).any(axis=1)]
    right, wrong = both.mean(axis=0).tolist() if len(both) else (np.nan, np.nan)
    exact = [interval(column) for column in written.T] if config.written else [None, None]
    choices = float(np.mean([len(case.choices) for case in cases]))
    return Finding(
        test=test,
        method=method,
        cases=len(cases),
        choices=choices,
        measure="auc" if method == "likelihood" else "accuracy",
        score=interval(measured[:, 0]),
        chance=interval(measured[:, 1]),
        difference=difference,
        accuracy=right,
        accuracy_chance=wrong,
        written=exact[0],
        written_chance=exact[1],
        found=found,
        failures=dict(sorted(failures.items())),
    )


Measured = tuple[NDArray[np.float64], NDArray[np.float64]]


def _likelihoods(model: ChatModel, cases: Sequence[Case], failures: Counter[str]) -> Measured:
    """Return float64[cases, 2] twice: the share of foils that are less likely than the truth, and is it the likeliest?

    A tie counts half; of k continuations that share the first place each counts 1 / k.
    """
    replies = model.score([_score_request(shown, case) for case in cases for shown in (case.shown, case.control)])
    measured, first = np.full((2, len(cases), 2), np.nan)
    for at, reply in enumerate(replies):
        case, key = cases[at // 2], at % 2
        logprobs = np.asarray(reply.logprobs, dtype=np.float64)
        if reply.failure is not None or np.isnan(logprobs).any():
            failures[reply.failure or "missing_logprob"] += 1
            continue
        own = logprobs[case.truth]
        below, equal = (logprobs < own).sum(), (logprobs == own).sum()
        measured[at // 2, key] = (below + (equal - 1) / 2) / (len(logprobs) - 1)
        first[at // 2, key] = 1 / equal if below + equal == len(logprobs) else 0.0
    return measured, first


def _chosen(model: ChatModel, cases: Sequence[Case], failures: Counter[str]) -> Measured:
    """Return float64[cases, 2] twice: is the truth chosen?"""
    replies = model.chat([_chat_request(shown, case) for case in cases for shown in (case.shown, case.control)])
    chosen = np.full((len(cases), 2), np.nan)
    for at, reply in enumerate(replies):
        case = cases[at // 2]
        if reply.failure is not None:
            failures[reply.failure] += 1
        elif not 1 <= reply.value["choice"] <= len(case.choices):
            failures["out_of_range"] += 1
        else:
            chosen[at // 2, at % 2] = reply.value["choice"] - 1 == case.truth
    return chosen, chosen


def _written(model: ChatModel, cases: Sequence[Case], failures: Counter[str]) -> NDArray[np.float64]:
    """Return float64[cases, 2]: is what the model writes the truth, to the letter but for case and spaces?"""
    replies = model.chat([_chat_request(shown, None) for case in cases for shown in (case.shown, case.control)])
    exact = np.full((len(cases), 2), np.nan)
    for at, reply in enumerate(replies):
        case = cases[at // 2]
        # A long answer is cut, and its first line is an answer all the same.
        if reply.failure not in (None, "truncated"):
            failures[str(reply.failure)] += 1
        else:
            exact[at // 2, at % 2] = _said(reply, case.key) == _plain(case.choices[case.truth])
    return exact


def _said(reply: ChatReply, key: str) -> str:
    """Return the first line of an answer, without the key if it was repeated."""
    lines = [line for line in reply.text.strip().strip("`").splitlines() if line.strip()] or [""]
    said, key = _plain(lines[0]), _plain(key)
    return _plain(said.removeprefix(key)) if key else said


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip("|\"'` ")


# -- verdicts ---------------------------------------------------------------------------


def _words(finding: Finding) -> str:
    f = finding
    if f.found is None:
        return f"{f.test}: cannot tell, {f.difference.n} of {f.cases} cases have usable answers"
    told = f"the true one of {f.choices:.3g} stands first in {f.accuracy:.0%} of {f.difference.n} cases"
    told += f", with the wrong key in {f.accuracy_chance:.0%}"
    if f.measure == "auc":
        told += f"; AUC {f.score.mean:.2f} against {f.chance.mean:.2f}"
    if not f.found:
        return f"{f.test}: no sign of it ({told})"
    knows = "knows something of it, from the world or from the file" if f.test.startswith("attribute") else "knows the file"
    return f"{f.test}: the model {knows} ({told})"


def _verdict(findings: Sequence[Finding], dataset: str) -> str:
    file = [f.test for f in findings if f.found and not f.test.startswith("attribute")]
    world = [f.test.partition(":")[2] for f in findings if f.found and f.test.startswith("attribute")]
    untold = [f.test for f in findings if f.found is None]
    if file:
        words = f"the model has seen {dataset}: it knows {' and '.join(file)} of the public file by heart"
    elif not findings or len(untold) == len(findings):
        return f"cannot tell whether the model has seen {dataset}"
    else:
        words = f"no sign that the model knows {dataset} by heart"
    words += f"; it knows something of the items' {' and '.join(world)}" if world else ""
    return words + (f"; cannot tell: {', '.join(untold)}" if untold else "")


def _finite(value: Any) -> Any:
    """Return JSON values with None for nan."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
