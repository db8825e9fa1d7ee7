"""What every component must keep, as classes to inherit.

A component's test names the class; the tests come with the contract::

    class TestEASE(ScoringContract):
        component = EASE
        configs = {"l2": 10.0}             # for the small world; defaults where nothing is said
        floor = ("ndcg@10", 0.073)         # on MovieLens-100K, with the default config

Hooks to override: ``make`` (how a component is built), ``resources`` (encoder and LLM),
``world`` (where the known answer lies), ``expected`` (recall there).
"""

from tests.contracts.agreement import assert_same_lists
from tests.contracts.augmenter import AugmenterContract
from tests.contracts.component import ComponentContract
from tests.contracts.evaluation import mean_metric, recall
from tests.contracts.explainer import ExplainerContract
from tests.contracts.predictor import PredictorContract, area, rmse
from tests.contracts.ranker import RankerContract
from tests.contracts.retriever import RetrieverContract
from tests.contracts.scoring import ScoringContract

__all__ = [
    "AugmenterContract", "ComponentContract", "ExplainerContract", "PredictorContract", "RankerContract", "RetrieverContract",
    "ScoringContract", "area", "assert_same_lists", "mean_metric", "recall", "rmse",
]  # fmt: skip
