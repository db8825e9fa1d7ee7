"""The values that flow and the verbs that act on them; imports nothing else of the package."""

from llm4rec.core.component import (
    Augmenter,
    Claim,
    Component,
    Config,
    Explainer,
    Explanation,
    FilePath,
    Predictor,
    Ranker,
    Resources,
    Retriever,
    Scorer,
    ScoringComponent,
)
from llm4rec.core.dataset import Clock, Dataset, Histories
from llm4rec.core.errors import (
    AssetError,
    BudgetError,
    DataError,
    LLM4RecError,
    ModelError,
    NotFittedError,
    RunError,
    SpecError,
    did_you_mean,
)
from llm4rec.core.lists import Exchange, Lists, Note, Trial
from llm4rec.core.ragged import Ragged
from llm4rec.core.space import Choice, Space, Uniform, Whole
from llm4rec.core.split import Cases, Mask, Queries, Split, Training
from llm4rec.core.vocabulary import Vocabulary

__all__ = [
    "AssetError", "Augmenter", "BudgetError", "Cases", "Choice", "Claim", "Clock", "Component", "Config", "DataError",
    "Dataset", "Exchange", "Explainer", "Explanation", "FilePath", "Histories", "LLM4RecError", "Lists",
    "Mask", "ModelError", "NotFittedError", "Note", "Predictor", "Queries", "Ragged", "Ranker", "Resources",
    "Retriever", "RunError", "Scorer", "ScoringComponent", "Space", "SpecError", "Split", "Training", "Trial",
    "Uniform", "Vocabulary", "Whole",
    "did_you_mean",
]  # fmt: skip
