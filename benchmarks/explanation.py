"""What explanations are worth, checked by code; prints one line of JSON for each explainer and control.

MovieLens-100K, whole catalogue, leave-one-out, seen masked: the first three items of EASE for 50 test cases
drawn with a seed, explained without a language model and by the embedded one (whose answers are kept, so
that nothing is asked twice).  Then the 3,000 explanations of XRec's Amazon set, where it is on this machine.

    python benchmarks/explanation.py --cases 50
    python benchmarks/explanation.py --part evidence --part xrec
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.assets import home
from llm4rec.core import Explanation, Lists, Queries
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.data.explained import Explained, read_explained
from llm4rec.experiment.resources import open_model
from llm4rec.llm import LLMConfig, Metered, Store, Stored
from llm4rec.metrics import Comparison, Interval, bootstrap_interval, paired_test
from llm4rec.metrics.explanation import ratio_interval, text_overlap, unique_sentence_ratio
from llm4rec.models.ease import EASE
from llm4rec.prompted import EvidenceExplainer, EvidenceExplainerConfig, LLMExplainer, LLMExplainerConfig
from llm4rec.prompted.explain.controls import controls, derangement
from llm4rec.prompted.explain.evaluate import explanation_metrics
from llm4rec.prompted.explain.fidelity import by_retrieving
from llm4rec.prompted.explain.mentions import Finder
from llm4rec.prompted.explain.verify import Verdict, Verifier, verify_against

PARTS = ("evidence", "llm", "xrec")
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "xrec-amazon"
#: Kinds of books that the explanations of XRec speak of.
GENRES = """adventure, Amish fiction, autobiography, biography, chick lit, Christian fiction, cozy mystery, crime fiction,
dystopian, dystopia, erotica, erotic romance, fairy tale, fantasy, historical fiction, historical romance, history, horror,
humor, literary fiction, memoir, military romance, mystery, new adult, non-fiction, nonfiction, paranormal romance,
paranormal, poetry, psychological thriller, romance, romantic comedy, romantic suspense, science fiction, sci-fi, self-help,
spy novel, supernatural, suspense, thriller, true crime, urban fantasy, vampire, western, women's fiction, young adult"""


def say(what: str, **figures: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps({"benchmark": "explanation", "what": what, **figures}) + "\n")
    sys.stdout.flush()


def told(interval: Interval) -> Any:
    """Return a figure with its interval, where it has one."""
    if np.isnan(interval.low):
        return None if np.isnan(interval.mean) else round(interval.mean, 4)
    return {"mean": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4), "n": interval.n}


def fallen(t: Comparison) -> dict[str, Any]:
    """Return how far a score fell, and how sure that is."""
    return {"fall": round(t.difference, 4), "low": round(t.low, 4), "high": round(t.high, 4), "p": round(t.p, 5), "n": t.n}


# -- MovieLens-100K -------------------------------------------------------------------------
def drafts(explanations: Sequence[Sequence[Explanation]], which: str) -> list[list[Explanation]]:
    """Return what the model had written: its first sentences, or those after the repair, without their claims.

    What it never wrote (no evidence, a failed call) is left out; claims are then read by code, so that the
    writer's own checks do not judge themselves.
    """
    out = []
    for several in explanations:
        kept = []
        for e in several:
            said = (e.drafts[0] if which == "first" else e.drafts[-1] if e.failure else e.sentence) if e.drafts else e.sentence
            if said and (e.drafts or e.failure is None):
                kept.append(replace(e, sentence=said, claims=(), failure=None, drafts=()))
        out.append(kept)
    return out


def movielens(parts: Sequence[str], n: int, seed: int, store: Path) -> None:
    """Print the figures of each explainer of EASE's lists, and of each control."""
    split = make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))
    rng = np.random.default_rng(seed)
    cases = split.test.take(np.random.default_rng(seed).permutation(len(split.test))[:n])
    ease = EASE().fit(split.train, valid=None, rng=rng)
    lists = ease.retrieve(cases.queries, 3, exclude=cases.seen)
    system = by_retrieving(ease, cases.seen, split.train.n_items)

    def measure(
        name: str, explanations: Sequence[Sequence[Explanation]], config: Any, faithful: bool = True, **more: Any
    ) -> None:
        found = explanation_metrics(
            explanations, cases.queries, split.train, config=config, system=system if faithful else None,
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        kinds = Counter(m.kind for r in found.records for m in r.verdict.unsupported)
        row = {figure: told(interval) for figure, interval in found.row.items()}
        say(name, set="ml-100k", cases=n, explanations=len(found.records), **row, unsupported_kinds=dict(kinds), **more)

    def control(name: str, explanations: Sequence[Sequence[Explanation]], config: Any) -> None:
        verifier = Verifier(split.train.item_table, config)
        for kind, c in controls(explanations, cases.queries, verifier, rng=np.random.default_rng(seed)).items():
            say(
                f"control: {kind}, {name}",
                changed=c.changed,
                claim_precision=fallen(c.precision),
                supported_mentions=fallen(c.support),
            )

    if "evidence" in parts:
        for name, config, follow in (
            ("evidence, attributes and users", EvidenceExplainerConfig(), False),
            ("evidence, EASE's own weights", EvidenceExplainerConfig(), True),
            ("evidence, with counts", EvidenceExplainerConfig(counts=True), True),
        ):
            explainer = EvidenceExplainer(config).fit(split.train, valid=None, rng=rng)
            if follow:
                explainer.follow(ease)
            clock = time.perf_counter()
            explanations = explainer.explain(cases.queries, lists)
            measure(name, explanations, config, seconds=round(time.perf_counter() - clock, 2))
            control(name, explanations, config)
    if "llm" in parts:
        by_llm(split.train, cases.queries, lists, store, measure, control)


def by_llm(train: Any, queries: Queries, lists: Lists, store: Path, measure: Any, control: Any) -> None:
    """Print the figures of the embedded model: what it wrote first, after the repair, and what is shown."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with Store(store) as calls:
        metered = Metered(Stored(open_model(LLMConfig()), calls))
        explainer = LLMExplainer(LLMExplainerConfig(), metered).fit(train, valid=None, rng=np.random.default_rng(0))
        clock = time.perf_counter()
        explanations = explainer.explain(queries, lists)
        seconds = round(time.perf_counter() - clock, 1)
    tally = metered.tally
    asked = {"seconds": seconds, "calls": tally.calls, "tokens_in": tally.tokens_in, "tokens_out": tally.tokens_out}
    config = explainer.config
    flat = [e for several in explanations for e in several]
    repairs = {
        "failed_first": sum(bool(e.drafts) for e in flat),
        "repaired": sum(bool(e.drafts) and e.failure is None for e in flat),
        "failures": dict(Counter(e.failure for e in flat if e.failure)),
    }
    measure("llm, first sentences, read by code", drafts(explanations, "first"), config, faithful=False)
    measure("llm, after one repair, read by code", drafts(explanations, "repaired"), config, faithful=False)
    measure("llm, as shown", explanations, config, **repairs, **asked)
    control("llm", explanations, config)


# -- XRec -----------------------------------------------------------------------------------
def support(verdicts: Sequence[Verdict]) -> tuple[np.ndarray, np.ndarray]:
    """Return the supported and all mentions of each text."""
    every = np.array([len(v.mentions) for v in verdicts], dtype=np.float64)
    return every - np.array([len(v.unsupported) for v in verdicts]), every


def xrec(explained: Explained, seed: int) -> None:
    """Print how much of what explanations name stands in the profiles, and how overlap sees right and wrong ones."""
    rng = np.random.default_rng(seed)
    n = len(explained)
    finder = Finder(explained.titles, [("genre", " ".join(g.split())) for g in GENRES.split(",")])
    other = derangement(n, rng)
    clock = time.perf_counter()
    right = [verify_against(finder, text, explained.sources(i)) for i, text in enumerate(explained.explanations)]
    seconds = round(time.perf_counter() - clock, 1)
    wrong = [verify_against(finder, text, explained.sources(other[i])) for i, text in enumerate(explained.explanations)]
    parts, wholes = support(right)
    kinds = Counter(f.mention.kind for v in right for f in v.mentions)
    held = Counter(f.mention.kind for v in right for f in v.mentions if f.supported)
    say(
        "explanations of XRec against title and profiles", set="xrec-amazon", explanations=n, seconds=seconds,
        supported_mentions=told(ratio_interval(parts, wholes, rng=rng)),
        explanations_with_unsupported=told(bootstrap_interval((parts < wholes).astype(float), rng=rng)),
        subjective_share=told(ratio_interval(
            np.array([len(v.opinions) for v in right]), np.array([v.n_words for v in right]), rng=rng)),
        usr=round(unique_sentence_ratio(explained.explanations), 4),
        by_kind={kind: {"mentions": m, "supported": round(held[kind] / m, 4)} for kind, m in kinds.most_common()},
    )  # fmt: skip
    rates = [np.divide(p, w, out=np.full(n, np.nan), where=w > 0) for p, w in (support(right), support(wrong))]
    t = paired_test(rates[0], rates[1], rng=rng)
    say("control: swapped, XRec", supported_mentions=fallen(t))
    swapped = text_overlap([explained.explanations[i] for i in other], explained.explanations)
    say("overlap with another user's explanation, XRec", **{k: round(v, 2) for k, v in swapped.items()})


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--store", type=Path, default=home() / "benchmarks" / "explanation.sqlite")
    parser.add_argument("--xrec", type=Path, default=SHARED, help="folder of XRec's Amazon set")
    given = parser.parse_args(arguments)
    parts: Iterator[str] | Sequence[str] = given.part or PARTS
    if set(parts) & {"evidence", "llm"}:
        movielens(parts, given.cases, given.seed, given.store)
    if "xrec" in parts:
        if given.xrec.is_dir():
            xrec(read_explained(given.xrec), given.seed)
        else:
            say("XRec left out: its set is not on this machine", looked_in=given.xrec.name)


if __name__ == "__main__":
    main(sys.argv[1:])
