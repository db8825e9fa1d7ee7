"""Dialogues of people who recommend films to each other, and logged answers of a language model to some of them.

Sources: Hayati et al., INSPIRED, EMNLP 2020; Li et al., Towards Deep Conversational Recommendations (ReDial), NeurIPS
2018; He et al., Large Language Models as Zero-Shot Conversational Recommenders, CIKM 2023 (answers of gpt-3.5-turbo-0301).
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from llm4rec.core import DataError, did_you_mean
from llm4rec.data.sets import SetInfo, local

#: Sets whose moments have a logged answer.
LOGGED: Final = ("conv-llm-replay",)

Side = Literal["seeker", "recommender"]


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance: who, what, and the titles (with years where the source has them) of the films in it."""

    side: Side
    text: str
    titles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One dialogue, in order."""

    name: str
    lines: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A moment at which the recommender named films.

    Attributes:
        dialogue: name of the dialogue.
        at: number of the recommender's line.
        before: what was said until then.
        mentioned: titles that were named until then, each once, in order.
        truth: titles that the recommender named.
        logged: a language model's raw answer to the moment, where the source has one.
    """

    dialogue: str
    at: int
    before: tuple[Said, ...]
    mentioned: tuple[str, ...]
    truth: tuple[str, ...]
    logged: str | None = None


def dialogue_sets() -> list[SetInfo]:
    """Return every named set of dialogues."""
    return [info for info, _ in _SETS.values()]


def read_requests(name: str) -> list[Request]:
    """Return the moments of a named set at which the recommender named films, after the seeker said something.

    Raises:
        DataError: there is no such set, its files are not here, or they are not as they should be.
    """
    if name not in _SETS:
        raise DataError(f"unknown set of dialogues {name!r}", todo=did_you_mean(name, _SETS))
    info, read = _SETS[name]
    folder = local(info)
    try:
        return list(read(folder))
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"cannot be read ({type(error).__name__}: {error})", where=str(folder)) from None


def requests_of(dialogues: Iterator[Dialogue]) -> Iterator[Request]:
    """Yield the moments of dialogues at which the recommender named films, after the seeker said something."""
    for dialogue in dialogues:
        for at, said in enumerate(dialogue.lines):
            before = dialogue.lines[:at]
            if said.side == "recommender" and said.titles and any(b.side == "seeker" for b in before):
                mentioned = tuple(dict.fromkeys(title for b in before for title in b.titles))
                yield Request(dialogue.name, at, before, mentioned, said.titles)


# -- the sets -------------------------------------------------------------------------------
def _text(folder: Path, name: str) -> str:
    if (folder / name).is_file():
        return (folder / name).read_text(encoding="utf-8")
    return gzip.decompress((folder / f"{name}.gz").read_bytes()).decode()


def _inspired(folder: Path) -> Iterator[Dialogue]:
    rows = csv.DictReader(_text(folder, "dev.tsv").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    lines: dict[str, list[Said]] = {}
    for row in rows:
        text = row["text"].replace("QUOTATION_MARK", '"')
        titles = tuple(dict.fromkeys(t.strip() for t in row["movies"].replace("QUOTATION_MARK", '"').split(";") if t.strip()))
        side: Side = "seeker" if row["speaker"] == "SEEKER" else "recommender"
        lines.setdefault(row["dialog_id"], []).append(Said(side, text, titles))
    yield from (Dialogue(name, tuple(said)) for name, said in lines.items())


_YEAR = re.compile(r"\s*\(\d{4}\)$")
_MENTION = re.compile(r"@(\d+)")


def _redial(folder: Path) -> Iterator[Dialogue]:
    for line in _text(folder, "valid_data.jsonl").splitlines():
        row = json.loads(line)
        names: Mapping[str, str] = {k: " ".join(v.split()) for k, v in dict(row["movieMentions"] or {}).items() if v}
        lines = []
        for message in row["messages"]:
            codes = [c for c in _MENTION.findall(message["text"]) if c in names]
            # People picked films from a list that shows the year; they did not write it.
            text = _MENTION.sub(lambda m: _YEAR.sub("", names.get(m[1], "a film")), message["text"])  # noqa: B023
            side: Side = "seeker" if message["senderWorkerId"] == row["initiatorWorkerId"] else "recommender"
            lines.append(Said(side, " ".join(text.split()), tuple(dict.fromkeys(names[c] for c in codes))))
        yield Dialogue(str(row["conversationId"]), tuple(lines))


def _replay(folder: Path) -> Iterator[Request]:
    """The logged moments; of the names said before, only those that are truth somewhere are known to be films."""
    turns = [json.loads(line) for line in _text(folder, "test.jsonl").splitlines()]
    answers = [json.loads(line) for line in _text(folder, "gpt35_general_inspired.jsonl").splitlines()]
    if len(turns) != len(answers):
        raise ValueError(f"{len(answers)} answers to {len(turns)} turns")
    named = {t for answer in answers for t in answer["gt_list"]}
    for turn, answer in zip(turns, answers, strict=True):
        # The turns alternate, the seeker's first, which may be empty.
        said = (Said("seeker" if at % 2 == 0 else "recommender", text) for at, text in enumerate(turn["context"]))
        films = tuple(dict.fromkeys(t for t in answer["prev_list"] if t in named))
        logged = answer["resp"]["choices"][0]["message"]["content"] if answer.get("resp") else None
        number = int(turn["turn_id"].rpartition("_")[2])
        before = tuple(line for line in said if line.text.strip())
        yield Request(turn["dialog_id"], number, before, films, tuple(dict.fromkeys(answer["gt_list"])), logged)


def _moments(read: Callable[[Path], Iterator[Dialogue]]) -> Callable[[Path], Iterator[Request]]:
    return lambda folder: requests_of(read(folder))


_SETS: Final[Mapping[str, tuple[SetInfo, Callable[[Path], Iterator[Request]]]]] = {
    info.name: (info, read)
    for info, read in (
        (
            SetInfo(
                "conv-inspired", "INSPIRED: film recommendation dialogues between people, development part", "none stated",
                "Hayati et al., INSPIRED, EMNLP 2020", "https://github.com/sweetpeach/Inspired", 200, 0, 3_538,
                "conv-inspired", ("dev.tsv",),
            ),
            _moments(_inspired),
        ),
        (
            SetInfo(
                "conv-redial", "ReDial: film recommendation dialogues between people, validation part", "CC BY 4.0",
                "Li et al., Towards Deep Conversational Recommendations, NeurIPS 2018",
                "https://github.com/RUCAIBox/iEvaLM-CRS", 0, 0, 0, "conv-redial", ("valid_data.jsonl",),
            ),
            _moments(_redial),
        ),
        (
            SetInfo(
                "conv-llm-replay", "gpt-3.5-turbo's logged answers to 228 turns of INSPIRED's test part", "none stated",
                "He et al., Large Language Models as Zero-Shot Conversational Recommenders, CIKM 2023",
                "https://github.com/AaronHeee/LLMs-as-Zero-Shot-Conversational-RecSys", 0, 0, 228, "conv-llm-replay",
                ("test.jsonl", "gpt35_general_inspired.jsonl"),
            ),
            _replay,
        ),
    )
}  # fmt: skip
