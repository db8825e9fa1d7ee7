"""How the stages of a pipeline work together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm4rec.core import Config
from llm4rec.pipeline.fusion import Method, Normalise
from llm4rec.pipeline.rerank import Omitted

Share = float | Literal["auto"]


class PipelineConfig(Config):
    """How the stages of a pipeline work together."""

    candidates: int = Field(100, ge=1)
    """Items that each retriever is asked for, and that the fusion keeps (more if a longer list is asked for)."""
    fusion: Method = "rrf"
    """How several retrievers' lists become one: reciprocal ranks, or a weighted sum of scores."""
    fusion_weights: tuple[float, ...] | Literal["auto"] = ()
    """Weight of each retriever in the fusion, in order; all alike if empty; ``"auto"``: the best on validation cases."""
    rrf_k: float = Field(60.0, gt=0)
    """Constant added to ranks in reciprocal rank fusion; the larger, the less the first places count."""
    normalise: Normalise = "minmax"
    """How scores come to one scale before a weighted sum."""
    depth: int | tuple[int, ...] = 20
    """Items from the top that a ranker is given; one number for all rankers, or one for each."""
    weight: Share | tuple[Share, ...] = 1.0
    """Share of the ranker's score beside the incoming one, from 0 to 1, where 1 is the ranker's order
    alone; ``"auto"``: the best on validation cases.  One for all rankers, or one for each."""
    omitted: Omitted = "last"
    """What becomes of a candidate that a ranker did not rank: behind those that it did, or dropped."""
    tuning_cases: int = Field(200, ge=1)
    """Validation cases that what is ``"auto"`` may use; they are drawn with the seed of the run."""
    tuning_errors: float = Field(1.0, ge=0)
    """``weight = "auto"`` takes the smallest weight that is at most so many standard errors (of the paired
    difference) behind the best one, ``fusion_weights = "auto"`` equal weights unless the best are so much better;
    0 takes the best."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """The weights as a tuple, also where one stands for all rankers."""
        return self.weight if isinstance(self.weight, tuple) else (self.weight,)
