"""Language models behind a prompt: rankers and explainers."""

from llm4rec.prompted.explain.explainer import LLMExplainer, LLMExplainerConfig
from llm4rec.prompted.explain.templated import EvidenceExplainer, EvidenceExplainerConfig
from llm4rec.prompted.rank.config import LLMRankerConfig
from llm4rec.prompted.rank.ranker import LLMRanker

__all__ = [
    "EvidenceExplainer", "EvidenceExplainerConfig", "LLMExplainer", "LLMExplainerConfig", "LLMRanker", "LLMRankerConfig",
]  # fmt: skip
