"""Semantic IDs by a residual-quantised autoencoder of text vectors, after TIGER."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Dataset
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.codebooks import QuantisedScheme, kmeans, quantise
from llm4rec.generative.ids.values import ItemIDs
from llm4rec.nn.train import train as train_network


class RQVAE(QuantisedScheme):
    """An encoder E maps an item's text vector x to a latent z, codebooks quantise z level by level, a decoder D maps it back.

    With residuals ``r_0 = z``, ``r_{l+1} = r_l - e_l``, where e_l is the nearest row to r_l of codebook l, the loss is

        ``|x - D(sum of e_l)|^2 + sum over l of (|sg(r_l) - e_l|^2 + commitment |r_l - sg(e_l)|^2)``

    (means over dimensions), where sg stops the gradient; the decoder's gradient passes straight through to z.
    Codebooks start from k-means of the first residuals, so that no code is dead at once; one that nothing used
    for a while starts anew at the residual of a random item.  The codes are then those of the final latents.

    Rajput et al., *Recommender Systems with Generative Retrieval* (TIGER), NeurIPS 2023 (arXiv 2305.05065); Lee et
    al., *Autoregressive Image Generation using Residual Quantization*, CVPR 2022 (arXiv 2203.01941).
    """

    scheme: Literal["rq-vae"] = "rq-vae"
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the encoder's hidden layers; the decoder has them in reverse.  TIGER: 512, 256, 128."""
    latent: int = Field(32, ge=1)
    """Dimensions of z and of the codebooks."""
    commitment: float = Field(0.25, ge=0)
    """Weight of drawing latents to their codes."""
    steps: int = Field(2000, ge=1)
    """Training steps, rounded up to whole epochs."""
    batch_size: int = Field(1024, ge=1)
    """Items in a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of AdamW."""
    restart: int = Field(20, ge=0)
    """Epochs between two looks for codes that no item uses; 0: never."""

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Train on the catalogue's texts and quantise them."""
        self.check_room(train)
        latents, books = self.learn(self.vectors(train, encoder), rng)
        return self.quantised(latents, lambda level, _: books[level])

    def learn(self, vectors: NDArray[np.float32], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the latents float32[n, latent] of float32[n, d] and the codebooks float32[levels, codebook, latent]."""
        torch.manual_seed(int(rng.integers(2**31)))
        n, d = vectors.shape
        x = torch.from_numpy(vectors * np.float32(d**0.5))  # entries of unit size
        network = Network(d, self)

        def start(level: int, residual: NDArray[np.float32]) -> NDArray[np.float32]:
            book = kmeans(residual, self.codebook, iterations=self.iterations, balance=None, rng=rng)
            network.books.data[level] = torch.from_numpy(book)
            return book

        quantise(network.latents(x).numpy(), [self.codebook] * self.levels, start, unique=False, balance=None)

        def batches(epoch: int) -> Iterator[Tensor]:
            if self.restart and epoch % self.restart == 0:
                network.revive(x, rng)
            order = torch.from_numpy(rng.permutation(n))
            return (x[order[start : start + self.batch_size]] for start in range(0, n, self.batch_size))

        def loss(batch: Tensor) -> Tensor:
            z = network.encoder(batch)
            quantised, distance = network.quantise(z)
            return F.mse_loss(network.decoder(z + (quantised - z).detach()), batch) + distance

        optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=0.0)
        epochs = math.ceil(self.steps / max(1, -(-n // self.batch_size)))
        if n:
            train_network(network, optimizer, batches, loss, epochs=epochs, validate=None, clip=1.0)
        return network.latents(x).numpy(), network.books.detach().numpy()


class Network(nn.Module):
    """Encoder, codebooks float[levels, codebook, latent], decoder."""

    def __init__(self, d: int, config: RQVAE) -> None:
        super().__init__()
        widths = [d, *config.hidden, config.latent]
        self.encoder, self.decoder = _layers(widths), _layers(widths[::-1])
        self.books = nn.Parameter(torch.zeros(config.levels, config.codebook, config.latent))
        self.commitment = config.commitment

    def latents(self, x: Tensor) -> Tensor:
        """Map float[n, d] to float[n, latent], without a gradient."""
        with torch.no_grad():
            z: Tensor = self.encoder(x)
        return z

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return float[n, latent], the sum of the nearest rows, and the codebook and commitment losses."""
        residual, loss = z, z.new_zeros(())
        for book in self.books:
            row = book[nearest(residual.detach(), book.detach())]
            loss = loss + F.mse_loss(row, residual.detach()) + self.commitment * F.mse_loss(residual, row.detach())
            residual = residual - row.detach()
        return z - residual, loss

    def revive(self, x: Tensor, rng: np.random.Generator) -> None:
        """Move the codes that no item uses to residuals of random items."""
        residual = self.latents(x)
        for book in self.books.data:
            code = nearest(residual, book)
            dead = torch.bincount(code, minlength=len(book)) == 0
            book[dead] = residual[torch.from_numpy(rng.integers(len(x), size=int(dead.sum())))]
            residual = residual - book[code]


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Return int64[n], the nearest row of float[k, d] to each of float[n, d]."""
    return torch.addmm((book**2).sum(1), vectors, book.T, alpha=-2).argmin(1)


def _layers(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
