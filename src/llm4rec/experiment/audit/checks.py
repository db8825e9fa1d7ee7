"""The registry of checks.  To add one: write its function, add a line."""

from __future__ import annotations

from llm4rec.experiment.audit import (
    cases,
    columns,
    control,
    coverage,
    floors,
    lists,
    memories,
    order,
    sampled,
    sources,
    texts,
    ties,
    timing,
)
from llm4rec.experiment.audit.subject import Check

CHECKS: dict[str, Check] = {
    "own-future": Check("Does training hold a user's own future?", timing.own_future),
    "others-future": Check("Does training hold events from after a case?", timing.others_future),
    "history-times": Check("Do histories end before their query?", timing.history_times),
    "ties": Check("How many answers hang on the order of equal times?", ties.tied_cases),
    "known-truth": Check("Is the answer in the user's own past?", cases.known_truth),
    "shared-truth": Check("Is an answer asked for twice?", cases.shared_truth),
    "duplicate-events": Check("Are events told twice?", cases.duplicate_events),
    "masked-truth": Check("Are there cases that no system can hit?", cases.masked_truth),
    "disjoint": Check("Are users or items that are to be new, new?", cases.disjoint_parts),
    "cold-truth": Check("How much of the truth has no training event?", cases.cold_truth),
    "twins": Check("Does the catalogue name each thing once?", sources.twin_items),
    "fingerprint": Check("Does reading again give the same split?", sources.fingerprint),
    "order": Check("Does the order of the items predict the answer?", order.order_rules),
    "item-text": Check("Do item texts name the answer, or the user?", texts.item_texts),
    "user-text": Check("Do tables, profiles or requests name the answer?", texts.user_texts),
    "columns": Check("Are columns computed with held-out events?", columns.computed_columns),
    "facts": Check("Do stated memories know the future?", memories.stated_facts),
    "systems": Check("Which systems does the audit not fit?", coverage.left_out),
    "lists": Check("Do the lists keep the rules?", lists.rules_kept),
    "score-ties": Check("How often do equal scores decide?", lists.score_ties),
    "recomputed": Check("Do a run's figures follow from its lists?", lists.recomputed),
    "floors": Check("Is every system above the simplest rules?", floors.floors),
    "shuffled": Check("Do systems fall to chance on shuffled items?", control.shuffled_labels, fits=True),
    "tie-orders": Check("What is the order of equal times worth?", ties.tie_orders, fits=True),
    "sampled": Check("Would sampled candidates name another winner?", sampled.sampled_candidates, fits=True),
}
