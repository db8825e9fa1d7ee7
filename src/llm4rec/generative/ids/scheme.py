"""What every scheme of item IDs has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Config, Dataset, ModelError, Ragged, Resources
from llm4rec.features.reduce import DEFAULT_TEMPLATE, item_vectors
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.values import ItemIDs


class Scheme(Config):
    """How items get their IDs: the parameters, and ``build``.

    A model takes any scheme in its config (``ids: IdScheme``) and says
    ``config.ids.build(train, encoder=config.ids.open_encoder(resources), rng=rng)``.
    """

    control: Literal["none", "shuffled"] = "none"
    """``shuffled``: the same IDs, each given to another item.  What a scheme is worth is the difference."""

    def build(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Return an ID for every item of the catalogue, from training events and the item table alone.

        Args:
            train: the training part; items without events are in its catalogue.
            encoder: of texts, for schemes that read them.
            rng: of all draws; the same one gives the same IDs.

        Raises:
            ModelError: if the scheme needs an encoder and gets none.
            SpecError: if the item table lacks what the scheme reads, or there are more items than IDs.
        """
        return self.controlled(self.assign(train, encoder=encoder, rng=rng), rng)

    @abstractmethod
    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Return the IDs before any control; what a scheme implements."""

    def controlled(self, ids: ItemIDs, rng: np.random.Generator) -> ItemIDs:
        """Return the IDs as ``control`` says."""
        return ids.shuffled(rng) if self.control == "shuffled" else ids

    def open_encoder(self, resources: Resources) -> Encoder | None:
        """Return the encoder that ``build`` wants; None if the scheme reads no text."""
        return None


class TextScheme(Scheme):
    """A scheme that reads vectors of the items' texts."""

    encoder: str = "minilm"
    """Name of the encoder: an ``[encoder.NAME]`` table."""
    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table."""

    def open_encoder(self, resources: Resources) -> Encoder | None:
        """Return the encoder that ``encoder`` names."""
        opened: Encoder = resources.encoder(self.encoder)
        return opened

    def vectors(self, train: Dataset, encoder: Encoder | None) -> NDArray[np.float32]:
        """Return float32[n_items, d], the unit vector of each item's text; zero for an item without text."""
        if encoder is None:
            raise ModelError("needs an encoder", where=type(self).__name__, todo="build(train, encoder=..., rng=...)")
        return item_vectors(train, encoder, self.template)


def leveled(codes: NDArray[np.integer], sizes: Sequence[int], *, collisions: int | None = None) -> ItemIDs:
    """Make IDs of int[n_items, levels] codes, code c of level l in ``[0, sizes[l])``; each level has tokens of its own."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])  # [levels + 1]
    rows = np.asarray(codes, dtype=np.int64) + offsets[:-1]
    held = Ragged.from_lengths(np.full(len(rows), len(sizes)), rows.ravel())
    return ItemIDs(held, int(offsets[-1]), words(sizes), collisions)


def words(sizes: Sequence[int]) -> tuple[str, ...]:
    """Return the words of the tokens of levels of these sizes: ``<a_3>`` is code 3 of the first level."""
    return tuple(f"<{letters(level)}_{code}>" for level, size in enumerate(sizes) for code in range(size))


def letters(level: int) -> str:
    """Return a level's name: a, b, ..., z, aa, ab, ..."""
    head, last = divmod(level, 26)
    return (letters(head - 1) if head else "") + chr(ord("a") + last)
