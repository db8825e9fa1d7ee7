"""The registry of checks.  To add one: write its function, add a line."""

from __future__ import annotations

from llm4rec.experiment.audit import cases, order, timing
from llm4rec.experiment.audit.subject import Check

CHECKS: dict[str, Check] = {
    "own-future": Check("Does training hold a user's own future?", timing.own_future),
    "others-future": Check("Does training hold events from after a case?", timing.others_future),
    "history-times": Check("Do histories end before their query?", timing.history_times),
    "known-truth": Check("Is the answer in the user's own past?", cases.known_truth),
    "shared-truth": Check("Is an answer asked for twice?", cases.shared_truth),
    "duplicate-events": Check("Are events told twice?", cases.duplicate_events),
    "masked-truth": Check("Are there cases that no system can hit?", cases.masked_truth),
    "disjoint": Check("Are users or items that are to be new, new?", cases.disjoint_parts),
    "cold-truth": Check("How much of the truth has no training event?", cases.cold_truth),
    "order": Check("Does the order of the items predict the answer?", order.order_rules),
}
