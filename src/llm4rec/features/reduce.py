"""Text vectors made fit to be the item embeddings that a model starts from."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Config, Dataset
from llm4rec.features.text import ItemText, without_text
from llm4rec.features.values import Encoder

_LOG = logging.getLogger(__name__)
#: Principal directions with less than this share of the largest variance count as noise.
_NOISE = 1e-9
#: Rows of the covariance summed at once.
_ROWS = 65_536

DEFAULT_TEMPLATE = "{title} ({year}); {genres}"


class ItemInit(Config):
    """Item embeddings initialised from text, for models that learn an embedding for each item.

    Boz et al., Improving Sequential Recommendations with LLMs, 2024 (arXiv 2402.01339).
    """

    encoder: str = "minilm"
    """Name of the encoder: an ``[encoder.NAME]`` table."""

    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table."""

    whiten: bool = True
    """Give all kept directions equal variance; otherwise each keeps its share."""

    scale: float = Field(default=0.06, gt=0)
    """Standard deviation of the initial values."""

    control: Literal["none", "shuffled", "random"] = "none"
    """``shuffled``: the same vectors, each given to another item.  ``random``: normal values with
    the same mean and deviation in each dimension.  What the text is worth is the difference."""


def item_vectors(dataset: Dataset, encoder: Encoder, template: str = DEFAULT_TEMPLATE) -> NDArray[np.float32]:
    """Return float32[n_items, d], the unit vector of each item's text; zero for an item without text.

    Raises:
        SpecError: if the template does not fit the item table.
        ModelError: if the encoder fails.
    """
    texts = ItemText(template).render(dataset.item_table)
    if missing := without_text(texts):
        _LOG.warning("%s: %d of %d items have no text under %r", dataset.name, missing, len(texts), template)
    return encoder.encode(texts)


def reduce(
    vectors: NDArray[np.floating], dimension: int, *, whiten: bool = True, scale: float | None = None
) -> NDArray[np.float32]:
    """Return the vectors centred and turned to their ``dimension`` principal directions.

    A direction's sign is fixed: its largest component is positive.  All-zero rows (items
    without text) take no part and stay zero; so do the last columns if the vectors span fewer
    than ``dimension`` directions.

    Args:
        vectors: float[n, d].
        dimension: columns of the result.
        whiten: give each direction unit variance.
        scale: standard deviation of the result, over its rows with text and its columns that are
            not zero; None leaves the values as they are.

    Returns:
        float32[n, dimension], the direction of largest variance first.
    """
    held = np.flatnonzero(np.any(vectors != 0, axis=1))
    out = np.zeros((len(vectors), dimension), np.float32)
    if not len(held):
        return out
    x = np.asarray(vectors[held], dtype=np.float64)
    x -= x.mean(axis=0)
    covariance = sum((x[i : i + _ROWS].T @ x[i : i + _ROWS] for i in range(0, len(x), _ROWS)), np.zeros((x.shape[1],) * 2))
    variances, directions = np.linalg.eigh(covariance / len(x))
    variances, directions = variances[::-1], directions[:, ::-1]
    kept = int((variances[:dimension] > max(_NOISE * variances[0], np.finfo(np.float64).tiny)).sum())
    directions = directions[:, :kept]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(kept)]
    y = x @ (directions * np.sign(largest))
    if whiten:
        y /= np.sqrt(variances[:kept])
    if scale is not None and kept:
        y *= scale / np.sqrt((y**2).mean())
    out[held, :kept] = y
    return out


def initial_embeddings(
    dataset: Dataset, init: ItemInit, encoder: Encoder, dimension: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return float32[n_items, dimension], the item embeddings that ``init`` describes.

    What the text does not determine is drawn from a normal distribution of deviation ``init.scale``:
    the rows of items without text, and the columns beyond the directions that the texts span
    (fewer items, or fewer dimensions of the encoder, than ``dimension``).  The same ``rng`` gives
    the same embeddings.

    Args:
        encoder: the one that ``init.encoder`` names, opened.
        dimension: width of the model's embeddings.

    Raises:
        SpecError: if the template does not fit the item table.
        ModelError: if the encoder fails.
    """
    vectors = reduce(item_vectors(dataset, encoder, init.template), dimension, whiten=init.whiten, scale=init.scale)
    drawn = rng.normal(0.0, init.scale, vectors.shape).astype(np.float32)
    known = vectors.any(axis=1, keepdims=True) & vectors.any(axis=0, keepdims=True)
    vectors = np.where(known, vectors, drawn)
    if init.control == "shuffled":
        return vectors[rng.permutation(len(vectors))]
    if init.control == "random":
        return rng.normal(vectors.mean(axis=0), vectors.std(axis=0), vectors.shape).astype(np.float32)
    return vectors
