"""What a report says of the inside of language-model rankers: slots, agreement, popularity, history, answers.

The figures are those of ``diagnosis.py``; here they get the shape that the page draws, and a sentence
each.  An interval that holds 0 never proves that something has no effect, and no sentence says so,
unless the two orders are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llm4rec.experiment.report_files import difference, entries, figure, mapping, number, numbers
from llm4rec.experiment.report_words import named, share, side, signed, spanned

#: Kendall correlation from which on two orders count as the same.
SAME_ORDER: Final = 0.9995
#: Cases below which nothing is said of a difference.
FEW: Final = 20


def diagnoses(value: Any) -> list[dict[str, Any]]:
    """Return one system's diagnosis, stage by stage, every field present, with sentences under ``says``.

    Args:
        value: ``diagnosis`` of a row of ``summary.json``: stage -> what was found (see ``diagnosis.py``).
    """
    return [_stage(name, mapping(inner)) for name, inner in mapping(value).items() if mapping(inner)]


def _stage(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "stage": name,
        "scoring": str(found.get("scoring") or ""),
        "controls": number(found.get("controls")),
        "answers": _answers(mapping(found.get("answers"))),
        "position": _position(mapping(found.get("position"))),
        "agreement": _known(figure(found.get("agreement"))),
        "popularity": _popularity(mapping(found.get("popularity"))),
        "history": _history(mapping(found.get("history"))),
    }
    return out | {"says": _says(out)}


def _known(value: dict[str, float | None]) -> dict[str, float | None] | None:
    return None if value["mean"] is None else value


def _answers(found: Mapping[str, Any]) -> dict[str, Any] | None:
    counts = {k: number(found.get(k)) for k in ("cases", "listings", "unusable", "incomplete", "unranked")}
    kinds = numbers(found.get("kinds"))
    return counts | {"kinds": kinds} if kinds or any(v is not None for v in counts.values()) else None


def _position(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Curves by slot, all of the length of the first; None without one."""
    first = [figure(f) for f in entries(found.get("first"))]
    if len(first) < 2:
        return None

    def curve(name: str) -> list[dict[str, float | None]] | None:
        values = [figure(f) for f in entries(found.get(name))]
        return values if len(values) == len(first) else None

    rest = {k: number(found.get(k)) for k in ("trials", "left_out")}
    return {"first": first, "rank": curve("rank"), "hit": curve("hit"), "slope": _known(figure(found.get("slope"))), **rest}


def _popularity(found: Mapping[str, Any]) -> dict[str, Any] | None:
    ranker = _known(figure(found.get("ranker")))
    if ranker is None:
        return None
    return {"ranker": ranker, "truth": _known(figure(found.get("truth"))), "excess": difference(found.get("excess"))}


def _history(found: Mapping[str, Any]) -> dict[str, Any] | None:
    controls = {}
    for name in ("shuffled", "fake"):
        control = mapping(found.get(name))
        if (gain := difference(control.get("gain"))) is not None:
            controls[name] = {"gain": gain, "tau": _known(figure(control.get("tau")))}
    if not controls:
        return None
    metric = named(str(found.get("metric") or "the metric"))
    return {"metric": metric, "true": _known(figure(found.get("true"))), **dict.fromkeys(("shuffled", "fake")), **controls}


# -- sentences ----------------------------------------------------------------------------
def _says(stage: Mapping[str, Any]) -> dict[str, str]:
    """One sentence or two for each part that was measured."""
    out = {}
    if (position := stage["position"]) is not None:
        out["position"] = _slots(position)
    elif stage["scoring"]:
        out["position"] = f"Candidates are not shown side by side (scoring: {stage['scoring']}), so that no slot can matter."
    if (popularity := stage["popularity"]) is not None:
        out["popularity"] = _popular(popularity["excess"])
    if (history := stage["history"]) is not None:
        for name in ("fake", "shuffled"):
            if history[name] is not None:
                out[name] = use_of_history(history[name], name, history["metric"])[1]
    if (answers := stage["answers"]) is not None and answers["listings"] is not None:
        out["answers"] = _answered(answers)
    return out


def _slots(position: Mapping[str, Any]) -> str:
    first, slope = position["first"], position["slope"]
    means = [f["mean"] for f in first]
    known = [m for m in means if m is not None]
    told = ""
    if known:
        top, even = max(known), share(1 / len(first))
        slot = f"Slot {means.index(top) + 1} of {len(first)}"
        told = f" {slot} is placed first most often, in {share(top)} of the listings; even: {even}."
    if slope is None:
        return told.strip() or "No listing could be compared."
    bent = side(slope)
    much = f"{signed(slope['mean'], '{:+.2f}')} of a list’s length ({spanned(slope, '{:+.2f}')})"
    if bent == 0:
        return f"No trend over the slots is seen: from the first to the last a place changes by {much}.{told}"
    early, moved = ("early", "falls") if bent > 0 else ("late", "rises")
    return f"It favours what is shown {early}: from the first slot to the last its candidate {moved}, by {much}.{told}"


def _popular(excess: Mapping[str, float | None] | None) -> str:
    if excess is None or excess["difference"] is None:
        return "How far users themselves choose what is popular could not be told."
    if (cases := excess["n"] or 0) < FEW:
        return f"In {cases:.0f} cases only the truth is among the candidates: too few to compare it with what users chose."
    away, by = side(excess), f"by {signed(excess['difference'])} ({spanned(excess)})"
    if away == 0:
        return f"It is not seen to go with popularity more or less than what users chose: the two differ {by}."
    return f"It goes with popularity {'more' if away > 0 else 'less'} than what users chose, {by}."


def use_of_history(control: Mapping[str, Any], name: str, metric: str) -> tuple[str, str]:
    """Return what a control says of the history (``fake``) or its order (``shuffled``): a word and a sentence.

    The word is ``used`` (the interval of the gain lies above 0), ``same`` (the control changes no
    order), ``unseen`` (the interval holds 0) or ``harmful`` (it lies below).
    """
    gain, tau = control["gain"], control["tau"]
    what, other = ("the history", "another user’s") if name == "fake" else ("the order of the history", "a random one")
    if tau is not None and tau["mean"] >= SAME_ORDER:
        return "same", f"It does not use {what}: with {other} it gives the same order."
    much = f"against {other}, the true one gains {signed(gain['difference'])} {metric} ({spanned(gain)})."
    gained = side(gain)
    if gained > 0:
        return "used", f"It uses {what}: {much}"
    if gained < 0:
        return "harmful", f"It would do better without {what} as it is: {much}"
    moved = "" if tau is None else f" Its order does change (τ {signed(tau['mean'], '{:+.2f}')}), to no loss that is seen."
    return "unseen", f"No use of {what} is seen: {much}{moved}"


def _answered(answers: Mapping[str, Any]) -> str:
    listings = answers["listings"]
    if not listings:
        return "Nothing was listed."
    out = f"{listings:,.0f} listings in {answers['cases'] or 0:,.0f} cases"
    unusable, incomplete = answers["unusable"] or 0, answers["incomplete"] or 0
    out += f": {unusable:,.0f} ({share(unusable / listings)}) of no use"
    out += f", {incomplete:,.0f} ({share(incomplete / listings)}) incomplete"
    unranked = answers["unranked"] or 0
    return f"{out}; {unranked:,.0f} {'case' if unranked == 1 else 'cases'} not ranked at all."
