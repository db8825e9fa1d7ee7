"""Language models behind a prompt: rankers and explainers."""

from llm4rec.prompted.explain import LLMExplainer, LLMExplainerConfig
from llm4rec.prompted.rank import LLMRanker, LLMRankerConfig
from llm4rec.prompted.templated import EvidenceExplainer, EvidenceExplainerConfig

__all__ = [
    "EvidenceExplainer", "EvidenceExplainerConfig", "LLMExplainer", "LLMExplainerConfig", "LLMRanker", "LLMRankerConfig",
]  # fmt: skip
