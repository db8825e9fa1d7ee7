"""Item text, sentence encoders, vectors kept by content, and the index that searches them."""

from llm4rec.features.cache import CachedEncoder, VectorCache
from llm4rec.features.encoders import open_encoder
from llm4rec.features.hashing import HashEncoder
from llm4rec.features.reduce import DEFAULT_TEMPLATE, ItemInit, initial_embeddings, item_vectors, reduce
from llm4rec.features.text import ItemText, without_text
from llm4rec.features.values import Encoder, EncoderConfig, unit

__all__ = [
    "DEFAULT_TEMPLATE", "CachedEncoder", "Encoder", "EncoderConfig", "HashEncoder", "ItemInit", "ItemText",
    "VectorCache", "initial_embeddings", "item_vectors", "open_encoder", "reduce", "unit", "without_text",
]  # fmt: skip
