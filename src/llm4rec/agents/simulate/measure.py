"""What a conversation was worth: figures of one talk, all decided by code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.talk import Talk, TalkConfig
from llm4rec.core import Lists, Ragged
from llm4rec.metrics import evaluate

#: Turns by which success is told, besides the last.
MARKS = (1, 2, 3, 5)


def marks(turns: int) -> list[int]:
    """Return the turns by which success is told."""
    return sorted({t for t in MARKS if t < turns} | {turns})


def talk_figures(talk: Talk, config: TalkConfig) -> dict[str, float]:
    """Return the figures of a conversation about one wanted item.

    ``success``: was it taken?  ``turns``: requests until then, the patience where it was not.  ``success@t``: taken
    within t turns.  ``recall@k/t``: did one of the first t turns have it among its first k items (seen or overlooked)?
    """
    taken = [n for n, r in enumerate(talk.rounds, 1) if r.taken]
    turns = taken[0] if taken else config.turns
    figures = {"success": float(bool(taken)), "turns": float(turns)}
    for t in marks(config.turns):
        figures[f"success@{t}"] = float(bool(taken) and turns <= t)
        for k in sorted({1, config.shown}):
            ranks = [r.rank for r in talk.rounds[:t] if r.rank is not None]
            figures[f"recall@{k}/{t}"] = float(any(rank <= k for rank in ranks))
    return figures | cost_figures(talk)


def taste_figures(talk: Talk, config: TalkConfig, facets: Facets) -> dict[str, float]:
    """Return the figures of a conversation with somebody who has tastes and is after no one item.

    ``satisfaction``: how well what was shown fits the items that the user went on to choose, the cosine of their facets,
    mean over what each turn showed, then over turns; a turn that shows nothing, or does not take place because the
    user left, has 0.  ``found``: share of those items that were shown and seen.
    """
    fit = fits(facets, talk.goal.targets)
    per_turn = [float(fit[list(r.shown)].mean()) if r.shown else 0.0 for r in talk.rounds if r.turn is not None]
    per_turn += [0.0] * (config.turns - len(per_turn))
    figures = {"satisfaction": float(np.mean(per_turn)), "found": len(talk.found) / len(talk.goal.targets)}
    for t in marks(config.turns):
        figures[f"satisfaction@{t}"] = float(np.mean(per_turn[:t]))
    return figures | cost_figures(talk)


def list_figures(talks: Sequence[Talk], truths: Sequence[Sequence[int]], shown: int) -> list[dict[str, float]]:
    """Return the figures of lists that answer one request each, by :func:`llm4rec.metrics.evaluate`; nan without truth."""
    asked = [at for at, truth in enumerate(truths) if truth]
    figures = [dict.fromkeys(list_names(shown), float("nan")) for _ in talks]
    if not asked:
        return figures
    lists = Lists.empty(len(asked), shown)
    for row, at in enumerate(asked):
        items = talks[at].rounds[0].shown
        lists.items[row, : len(items)] = items
        lists.scores[row, : len(items)] = -np.arange(len(items))
    found = evaluate(lists, Ragged.of([list(truths[at]) for at in asked]), list_names(shown))
    for name, values in found.items():
        for at, value in zip(asked, values.tolist(), strict=True):
            figures[at][name] = value
    return figures


def list_names(shown: int) -> list[str]:
    """Return the figures of lists of a length."""
    ks = [k for k in (1, 5, 10, 20, 50) if k <= shown] or [shown]
    return [f"recall@{k}" for k in ks] + [f"ndcg@{k}" for k in ks if k == 10]


def cost_figures(talk: Talk) -> dict[str, float]:
    """Return what a conversation took and what went wrong in it; money is nan where it is not known."""
    turns = [r.turn for r in talk.rounds if r.turn is not None]
    calls = [call for turn in turns for call in turn.calls]
    said = [r.speaking for r in talk.rounds if r.speaking is not None]
    money = [turn.usd for turn in turns]
    return {
        "requests": float(len(turns)),
        "tool_calls": float(len(calls)),
        "tool_errors": float(sum(call.error is not None for call in calls)),
        "agent_failures": float(sum(len(turn.failures) for turn in turns)),
        "tokens": float(sum(t.cost.tokens_in + t.cost.tokens_out + t.cost.cached_in + t.cost.cached_out for t in turns)),
        "usd": float("nan") if any(usd is None for usd in money) else float(sum(usd or 0.0 for usd in money)),
        "seconds": sum(r.seconds for r in talk.rounds),
        "leaks": float(sum(bool(r.leaked) for r in talk.rounds)),
        "speech_failures": float(sum(len(u.failures) for u in said)),
        "speech_tokens": float(sum((u.usage.tokens_in or 0) + (u.usage.tokens_out or 0) for u in said)),
    }


def fits(facets: Facets, items: frozenset[int] | Sequence[int]) -> NDArray[np.float64]:
    """Return float64[n_items]: the cosine of each item's facets with the mean of some items' (each scaled to length 1)."""
    held = facets.matrix.astype(np.float64)
    lengths = np.sqrt(np.asarray(held.multiply(held).sum(axis=1)).ravel())
    scaled = held.multiply(1.0 / np.maximum(lengths, 1e-12)[:, None]).tocsr()
    taste = np.asarray(scaled[sorted(items)].mean(axis=0)).ravel()
    length = float(np.linalg.norm(taste))
    return np.asarray(scaled @ taste).ravel() / length if length else np.zeros(held.shape[0])
