"""The search behind :mod:`.decode`: the best prefixes of each request, level by level."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, Ragged
from llm4rec.generative.step import CELLS, Over, StepModel, log_probabilities
from llm4rec.generative.trie import Mask, Trie
from llm4rec.generative.walk import Children, Walk


@dataclass(frozen=True, slots=True)
class Beams:
    """Prefixes of one level, [n, b] each, best first.

    Attributes:
        nodes: int64, where they are in the trie.
        scores: float32, their log-probabilities.
        ranks: float32, what they are ranked by; -inf: there is no prefix here.
        parents: int64, the prefix of the level before that each goes on from.
        tokens: int64, the token that was added.
    """

    nodes: Tensor
    scores: Tensor
    ranks: Tensor
    parents: Tensor
    tokens: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.nodes, self.scores, self.ranks, self.parents, self.tokens

    @classmethod
    def none(cls, n: int, b: int, device: torch.device) -> Self:
        gone, zero = torch.full((n, b), -torch.inf, device=device), torch.zeros((n, b), dtype=torch.int64, device=device)
        return cls(zero, gone, gone, zero, zero)

    @classmethod
    def joined(cls, parts: list[Self], dim: int) -> Self:
        return cls(*(torch.cat(same, dim) for same in zip(*(p.tensors for p in parts), strict=True)))


@dataclass(slots=True)
class Found:
    """The best whole IDs that a group has met, [n, k] each, by falling rank, then rising item."""

    items: Tensor
    scores: Tensor
    ranks: Tensor

    @classmethod
    def none(cls, n: int, k: int, device: torch.device) -> Self:
        gone = torch.full((n, k), -torch.inf, device=device)
        return cls(torch.full((n, k), -1, device=device), gone, gone.clone())

    def add(self, rows: slice, items: Tensor, scores: Tensor, ranks: Tensor) -> None:
        """Take over what is better; items that the group has not met."""
        k = self.items.shape[1]
        item, score, rank = (
            torch.cat([old[rows], new], 1)
            for old, new in ((self.items, items), (self.scores, scores), (self.ranks, ranks))
        )  # fmt: skip
        order = torch.argsort(item, dim=1, stable=True)
        order = order.gather(1, torch.argsort(rank.gather(1, order), dim=1, stable=True, descending=True))[:, :k]
        self.items[rows], self.scores[rows], self.ranks[rows] = (a.gather(1, order) for a in (item, score, rank))


class Search:
    """Beam search over a trie, in groups; prefixes are ranked by their score, less a penalty or with noise.

    Args:
        model: over n requests.
        trie, k, exclude, allowed: as in ``decode.beam_search``.
        over: over what probabilities sum to 1.
        beams: prefixes that are kept at each level.
        groups: into which they are split.
        diversity: what a prefix loses for each beam of an earlier group with the same token at this level.
        temperature: logits are divided by it.
        noise: where it comes from; None ranks without.
    """

    def __init__(
        self,
        model: StepModel,
        trie: Trie,
        k: int,
        *,
        exclude: Ragged | None,
        allowed: NDArray[np.bool_] | None,
        over: Over,
        beams: int,
        groups: int = 1,
        diversity: float = 0.0,
        temperature: float = 1.0,
        noise: np.random.Generator | None = None,
    ) -> None:
        self.model, self.trie, self.k = model, trie, k
        self.over, self.temperature, self.diversity = over, temperature, diversity
        self.states = model.begin()  # [n, b, d], of the level before
        self.n, self.device = len(self.states), self.states.device
        self.walk = Walk(trie, Mask.of(trie, self.n, exclude, allowed), self.device)
        self.widths = [beams // groups + (g < beams % groups) for g in range(groups)]
        self.found = [Found.none(self.n, k, self.device) for _ in range(groups)]
        self.noise = None
        if noise is not None:
            self.noise = torch.Generator(self.device).manual_seed(int(noise.integers(2**63 - 1)))

    def run(self) -> Lists:
        """Return the lists."""
        zeros = torch.zeros((self.n, 1), device=self.device)
        root = zeros if self.noise is None else self._gumbel(zeros.shape)
        beams = Beams(zeros.long(), zeros, root, zeros.long(), zeros.long())
        spans = [slice(0, 1)] * len(self.widths)  # all groups begin at the root
        for level in range(1, self.trie.depth + 1 if self.k and self.n else 0):
            if level > 1:
                self.states = self.model.advance(beams.parents, beams.tokens)
            steps = [self._step(rows, beams, spans, level) for rows in self._blocks(beams)]
            groups = [self._alive(g, Beams.joined(list(parts), 0)) for g, parts in enumerate(zip(*steps, strict=True))]
            ends = np.cumsum([0, *(g.nodes.shape[1] for g in groups)])
            spans = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
            beams = Beams.joined(groups, 1)
            if not beams.nodes.shape[1]:
                break
        return self._lists()

    def _blocks(self, beams: Beams) -> Iterator[slice]:
        """Yield requests whose candidates can be held at once."""
        many = int(torch.where(beams.ranks > -torch.inf, self.walk.fan(beams.nodes), 0).sum(1).max())
        size = max(1, CELLS // max(1, many))
        return (slice(at, min(at + size, self.n)) for at in range(0, self.n, size))

    def _step(self, rows: slice, before: Beams, spans: list[slice], level: int) -> list[Beams]:
        """Put the whole IDs of this level among those found, and return each group's prefixes to go on from."""
        own = Beams(*(t[rows] for t in before.tensors))
        n, b = own.nodes.shape
        kids = self.walk.children(own.nodes, own.ranks > -torch.inf, level, rows.start)
        if not len(kids.node):  # the IDs of all these requests are over
            return [Beams.none(n, max(width, self.k), self.device) for width in self.widths]
        gain = log_probabilities(self.model, self.states[rows].flatten(0, 1), kids, self.walk, self.over, self.temperature)
        score = own.scores.reshape(-1).index_select(0, kids.parent) + gain
        above = own.ranks.reshape(-1).index_select(0, kids.parent)
        rank = above + gain if self.noise is None else self._perturbed(score, above, kids, n * b)
        rank = torch.where(kids.free, rank, -torch.inf) if self.walk.masked else rank
        request, column, leaf = kids.parent // b, kids.parent % b, self.walk.leaf(kids.node)
        some = bool(leaf.any())
        items = self.walk.items[self.walk.first[kids.node].long()].long() if some else kids.node  # of whole IDs
        used = torch.zeros((n, self.trie.n_tokens if len(spans) > 1 else 0), device=self.device)
        kept = []
        for group, (span, width) in enumerate(zip(spans, self.widths, strict=True)):
            mine = rank
            if len(spans) > 1:
                penalty = self.diversity * used[request, kids.token]
                mine = torch.where((column >= span.start) & (column < span.stop), rank - penalty, -torch.inf)
                taken = best(mine, request, kids.node, n, width)
                real = taken >= 0
                used.index_put_((real.nonzero()[:, 0], kids.token[taken[real]]), used.new_ones(()), accumulate=True)
            if some:
                whole = best(torch.where(leaf, mine, -torch.inf), request, items, n, self.k)
                self._finish(group, rows, whole, items, score, mine)
            longer = best(torch.where(leaf, -torch.inf, mine), request, kids.node, n, max(width, self.k))
            at = longer.clamp(min=0)
            ranks = torch.where(self._enough(group, rows, longer, kids.node[at]), mine[at], -torch.inf)
            kept.append(Beams(kids.node[at], score[at], ranks, column[at], kids.token[at]))
        return kept

    def _finish(self, group: int, rows: slice, whole: Tensor, items: Tensor, score: Tensor, rank: Tensor) -> None:
        """Put candidates int64[n, k] that are whole IDs (-1: none) among the best that the group has met."""
        at, real = whole.clamp(min=0), whole >= 0
        values = (torch.where(real, a[at], -torch.inf) for a in (score, rank))
        self.found[group].add(rows, torch.where(real, items[at], -1), *values)

    def _enough(self, group: int, rows: slice, longer: Tensor, nodes: Tensor) -> Tensor:
        """Return which prefixes to keep, best first: the group's beams, and as many more as fill the lists."""
        real, width = longer >= 0, self.widths[group]
        if self.k <= width:  # each leads to an item at least
            return real & (torch.arange(longer.shape[1], device=self.device) < width)
        requests = torch.arange(rows.start, rows.stop, device=self.device)[:, None]
        items = torch.where(real, self.walk.open_items(requests, nodes), 0)
        covered = torch.cumsum(items, 1) - items + (self.found[group].items[rows] >= 0).sum(1, keepdim=True)
        return real & ((torch.arange(longer.shape[1], device=self.device) < width) | (covered < self.k))

    def _alive(self, group: int, beams: Beams) -> Beams:
        """Return the prefixes that may still lead to a better item than those of a full list: ranks only fall."""
        last = self.found[group].ranks[:, -1:]
        ranks = torch.where(beams.ranks >= last, beams.ranks, -torch.inf)
        wide = int((ranks > -torch.inf).sum(1).max())
        nodes, scores, _, parents, tokens = beams.tensors
        return Beams(*(t[:, :wide] for t in (nodes, scores, ranks, parents, tokens)))

    def _lists(self) -> Lists:
        """Return each group's share of items that no earlier group has given, in order of their scores."""
        given, values = torch.empty((self.n, 0), dtype=torch.int64, device=self.device), []
        for group, found in enumerate(self.found):
            share = -(-(self.k - (given >= 0).sum(1, keepdim=True)) // (len(self.found) - group))
            new = found.items >= 0
            if group:
                new &= ~(found.items[:, :, None] == given[:, None, :]).any(2)
            new &= torch.cumsum(new, 1) <= share
            given = torch.cat([given, torch.where(new, found.items, -1)], 1)
            values.append(torch.where(new, found.scores if self.noise is None else found.ranks, -torch.inf))
        return Lists.from_pools(given.cpu().numpy(), torch.cat(values, 1).cpu().numpy(), self.k)

    # -- noise --------------------------------------------------------------------------
    def _gumbel(self, shape: torch.Size) -> Tensor:
        uniform = torch.rand(shape, generator=self.noise, device=self.device, dtype=torch.float64)
        return -torch.log(-torch.log(uniform.clamp(min=torch.finfo(torch.float64).tiny))).float()

    def _perturbed(self, score: Tensor, above: Tensor, kids: Children, m: int) -> Tensor:
        """Return Gumbel variables of the children, given that the largest is that of their parent.

        Kool et al. 2019, algorithm 1, in the numerically stable form of their appendix B.3; float32[c].
        """
        drawn = torch.where(kids.free, score + self._gumbel(score.shape), -torch.inf)
        most = torch.full((m,), -torch.inf, device=self.device).scatter_reduce(0, kids.parent, drawn, "amax")[kids.parent]
        gap = above - drawn + torch.log1p(-torch.exp(torch.where(kids.free, drawn - most, -torch.inf)))
        return above - gap.clamp(min=0) - torch.log1p(torch.exp(-gap.abs()))


def best(rank: Tensor, request: Tensor, key: Tensor, n: int, width: int) -> Tensor:
    """Return int64[n, width]: the best candidates of each request, by falling rank, then rising key; -1 pads.

    Args:
        rank: float32[c]; -inf never gets in.
        request: int64[c] in [0, n), rising.
        key: int64[c], different within a request.
        n, width: shape of the result.

    ``topk`` breaks ties as it likes, so it only finds the last rank that gets in; what reaches it is sorted.
    """
    out = torch.full((n, width), -1, device=rank.device)
    index = (rank > -torch.inf).nonzero()[:, 0]
    if not len(index) or not width:
        return out
    count = torch.bincount(request, minlength=n)
    table = torch.full((n, int(count.max())), -torch.inf, device=rank.device)
    table[request, torch.arange(len(rank), device=rank.device) - (torch.cumsum(count, 0) - count)[request]] = rank
    last = table.topk(min(width, table.shape[1]), sorted=False).values.amin(1)
    index = index[rank[index] >= last[request[index]]]
    index = index[torch.argsort(key[index], stable=True)]
    index = index[torch.argsort(rank[index], stable=True, descending=True)]
    index = index[torch.argsort(request[index], stable=True)]
    row = request[index]
    count = torch.bincount(row, minlength=n)
    place = torch.arange(len(row), device=rank.device) - (torch.cumsum(count, 0) - count)[row]
    out[row[place < width], place[place < width]] = index[place < width]
    return out
