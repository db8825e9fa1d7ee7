"""What lists are worth: accuracy, what lies beyond it, and how sure a difference is."""

from llm4rec.metrics.accuracy import ACCURACY, evaluate
from llm4rec.metrics.names import parse_metric

__all__ = ["ACCURACY", "evaluate", "parse_metric"]
