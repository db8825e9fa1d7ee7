"""Item IDs for models that generate them: schemes that give each item a row of tokens, and the report on them."""

from llm4rec.generative.ids.attributes import AttributeIDs
from llm4rec.generative.ids.collaborative import CollaborativeIDs
from llm4rec.generative.ids.joint import JointIDs
from llm4rec.generative.ids.random import RandomIDs
from llm4rec.generative.ids.rq_kmeans import RQKMeans
from llm4rec.generative.ids.rq_vae import RQVAE
from llm4rec.generative.ids.scheme import Scheme, TextScheme, leveled
from llm4rec.generative.ids.sequential import SequentialIDs
from llm4rec.generative.ids.single import SingleIDs
from llm4rec.generative.ids.title import TitleIDs
from llm4rec.generative.ids.values import ItemIDs
from llm4rec.generative.ids.words import Pieces, Words

#: Any scheme, told apart by its ``scheme``: ``ids: IdScheme = Field(RQKMeans(), discriminator="scheme")``.
IdScheme = (
    RandomIDs | SequentialIDs | SingleIDs | TitleIDs | AttributeIDs | CollaborativeIDs | RQKMeans | RQVAE | JointIDs
)  # fmt: skip

__all__ = [
    "RQVAE", "AttributeIDs", "CollaborativeIDs", "IdScheme", "ItemIDs", "JointIDs", "Pieces", "RQKMeans", "RandomIDs",
    "Scheme", "SequentialIDs", "SingleIDs", "TextScheme", "TitleIDs", "Words", "leveled",
]  # fmt: skip
