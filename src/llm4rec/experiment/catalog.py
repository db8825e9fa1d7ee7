"""The explicit list of components that a specification can name.

To add one: write its file, import it here, add a line.  It then works in specifications, the
leaderboard, ``llm4rec recommend`` and wherever else a component is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm4rec.core import Component
from llm4rec.generative.item_llm import ItemLLM
from llm4rec.generative.liger import LIGER
from llm4rec.generative.p5 import P5
from llm4rec.generative.semantic_decoder import SemanticDecoder
from llm4rec.generative.tiger import TIGER
from llm4rec.models.als import ALS
from llm4rec.models.bias import Bias
from llm4rec.models.bpr import BPR
from llm4rec.models.dcn import DCN
from llm4rec.models.deepfm import DeepFM
from llm4rec.models.ease import EASE
from llm4rec.models.edlae import EDLAE
from llm4rec.models.fm import FM
from llm4rec.models.gru4rec import GRU4Rec
from llm4rec.models.ials import IALS
from llm4rec.models.item_knn import ItemKNN
from llm4rec.models.lexical import BM25, TFIDF
from llm4rec.models.lightgcn import LightGCN
from llm4rec.models.markov import Markov
from llm4rec.models.popular import Popular
from llm4rec.models.popular_by_attribute import PopularByAttribute
from llm4rec.models.repeat_visited import RepeatVisited
from llm4rec.models.sasrec import SASRec
from llm4rec.models.slim import SLIM
from llm4rec.models.text import TextRetriever
from llm4rec.models.text_ease import TextEASE
from llm4rec.models.two_tower import TwoTower
from llm4rec.peers import Peer
from llm4rec.pipeline.advisor import Advisor
from llm4rec.pipeline.bandit import Bandit
from llm4rec.prompted.explain.explainer import LLMExplainer
from llm4rec.prompted.explain.templated import EvidenceExplainer
from llm4rec.prompted.memory.expand import ExpandedText
from llm4rec.prompted.memory.items import ItemMemory
from llm4rec.prompted.memory.users import UserMemory
from llm4rec.prompted.rank.ranker import LLMRanker


@dataclass(frozen=True, slots=True)
class Entry:
    """A component that a specification can name: its class, its name for people, its family."""

    component: type[Component[Any]]
    label: str
    family: str


CATALOG: dict[str, Entry] = {
    "popular": Entry(Popular, "Popular", "popularity"),
    "popular-by-attribute": Entry(PopularByAttribute, "Popular by attribute", "popularity"),
    "repeat-visited": Entry(RepeatVisited, "RepeatVisited", "popularity"),
    "item-knn": Entry(ItemKNN, "ItemKNN", "neighbourhood"),
    "ease": Entry(EASE, "EASE", "linear"),
    "edlae": Entry(EDLAE, "EDLAE", "linear"),
    "slim": Entry(SLIM, "SLIM", "linear"),
    "als": Entry(ALS, "ALS", "factorisation"),
    "ials": Entry(IALS, "iALS", "factorisation"),
    "bpr": Entry(BPR, "BPR", "factorisation"),
    "markov": Entry(Markov, "Markov", "sequential"),
    "lightgcn": Entry(LightGCN, "LightGCN", "graph"),
    "two-tower": Entry(TwoTower, "Two towers", "factorisation"),
    "gru4rec": Entry(GRU4Rec, "GRU4Rec", "sequential"),
    "sasrec": Entry(SASRec, "SASRec", "sequential"),
    "text-ease": Entry(TextEASE, "TextEASE", "linear"),
    "p5": Entry(P5, "P5", "generative"),
    "bias": Entry(Bias, "Biases", "prediction"),
    "fm": Entry(FM, "FM", "prediction"),
    "deepfm": Entry(DeepFM, "DeepFM", "prediction"),
    "dcn": Entry(DCN, "DCN-v2", "prediction"),
    "peer": Entry(Peer, "Peer", "peer"),
    "bm25": Entry(BM25, "BM25", "text"),
    "tf-idf": Entry(TFIDF, "TF-IDF", "text"),
    "text": Entry(TextRetriever, "Text retrieval", "text"),
    "expanded-text": Entry(ExpandedText, "Text retrieval, expanded", "text"),
    "item-memory": Entry(ItemMemory, "Item memory", "memory"),
    "user-memory": Entry(UserMemory, "User memory", "memory"),
    "semantic-decoder": Entry(SemanticDecoder, "Semantic decoder", "generative"),
    "tiger": Entry(TIGER, "TIGER", "generative"),
    "liger": Entry(LIGER, "LIGER", "generative"),
    "item-llm": Entry(ItemLLM, "Item LLM", "generative"),
    "bandit": Entry(Bandit, "Bandit", "controller"),
    "llm-advisor": Entry(Advisor, "LLM advisor", "prompted"),
    "llm-ranker": Entry(LLMRanker, "LLM ranker", "prompted"),
    "llm-explainer": Entry(LLMExplainer, "LLM explainer", "prompted"),
    "evidence-explainer": Entry(EvidenceExplainer, "Evidence explainer", "evidence"),
}
