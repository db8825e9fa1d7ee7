"""What lists are worth: accuracy, what lies beyond it, and how sure a difference is."""

from llm4rec.metrics.accuracy import ACCURACY, Hits, evaluate
from llm4rec.metrics.beyond import BEYOND, ItemContext, Shown, evaluate_beyond
from llm4rec.metrics.invariants import check_invariants
from llm4rec.metrics.names import parse_metric
from llm4rec.metrics.pareto import dominators
from llm4rec.metrics.prediction import (
    LOWER,
    PER_CASE,
    PREDICTION,
    auc,
    compare_predictions,
    errors,
    gauc,
    one_class,
    prediction_intervals,
    prediction_means,
)
from llm4rec.metrics.slices import slice_cases
from llm4rec.metrics.statistics import (
    Comparison,
    Components,
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    cases_needed,
    holm,
    minimum_detectable,
    paired_test,
    paired_tests,
    variance_components,
)

__all__ = [
    "ACCURACY", "BEYOND", "LOWER", "PER_CASE", "PREDICTION", "Comparison", "Components", "Hits", "Interval",
    "ItemContext", "Shown", "auc", "bootstrap_interval", "bootstrap_intervals", "cases_needed", "check_invariants",
    "compare_predictions", "dominators", "errors", "evaluate", "evaluate_beyond", "gauc", "holm", "minimum_detectable",
    "one_class", "paired_test", "paired_tests", "parse_metric", "prediction_intervals", "prediction_means",
    "slice_cases", "variance_components",
]  # fmt: skip
