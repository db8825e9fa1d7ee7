"""A trie and the masks of requests as tensors: the children of many nodes at once, and which of them are free."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.generative.trie import Mask, Trie


class Children(NamedTuple):
    """The children of nodes [n, b], one after the other.

    Attributes:
        parent: int64[c], rising: the place in the flattened [n, b] of whose child each is.
        node: int64[c].
        token: int64[c], rising among the children of one parent.
        free: bool[c]: may the request see an item below it?
    """

    parent: Tensor
    node: Tensor
    token: Tensor
    free: Tensor


class Walk:
    """A trie on one device, with the mask of ``n`` requests; on the CPU the tensors are the trie's own arrays."""

    def __init__(self, trie: Trie, mask: Mask, device: torch.device | str = "cpu") -> None:
        def put(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.trie, self.device = trie, torch.device(device)
        self.tokens, self.first, self.last, self.items = map(put, (trie.tokens, trie.first, trie.last, trie.items))
        self._children = put(trie.children)
        #: Is anything hidden from anybody?
        self.masked = mask.below is not None or len(mask.taken) > 0
        self._below = None if mask.below is None else put(mask.below)
        self._taken = put(mask.taken)
        # keys (request, parent) rise along each level's closed nodes, as those of (request, node) do
        self._closed = [(put(r * trie.n_nodes + parent), put(node)) for r, parent, node in mask.closed]

    def leaf(self, nodes: Tensor) -> Tensor:
        """Return which nodes are items, as bool of the same shape."""
        return self._children[nodes] == self._children[nodes + 1]

    def fan(self, nodes: Tensor) -> Tensor:
        """Return how many children each node has, as int64 of the same shape."""
        return (self._children[nodes + 1] - self._children[nodes]).long()

    def children(self, nodes: Tensor, live: Tensor, level: int, start: int = 0) -> Children:
        """Return the children of live nodes.

        Args:
            nodes: int64[n, b], all at depth ``level - 1``.
            live: bool[n, b]; the others have no children.
            level: depth of the children.
            start: number of the first of these requests within the mask.
        """
        n, b = nodes.shape
        count = torch.where(live, self.fan(nodes), 0).reshape(-1)  # [n * b]
        begin = torch.cumsum(count, 0) - count
        total = int(count.sum())
        slots = torch.arange(n * b, device=self.device)
        parent = torch.repeat_interleave(slots, count, output_size=total)
        low = self._children[nodes.reshape(-1)].long()
        node = (low - begin).index_select(0, parent) + torch.arange(total, device=self.device)  # faster than []
        free = torch.ones(total, dtype=torch.bool, device=self.device)
        if self._below is not None:
            row = start + parent // b if len(self._below) > 1 else torch.zeros_like(parent)
            free &= self._below[row, self.last[node].long()] > self._below[row, self.first[node].long()]
        if len(self._closed) >= level and len(self._closed[level - 1][0]):
            known, closed = self._closed[level - 1]
            key = (start + slots // b) * self.trie.n_nodes + nodes.reshape(-1)
            lowest = torch.searchsorted(known, key)
            many = torch.where(live.reshape(-1), torch.searchsorted(known, key, right=True) - lowest, 0)
            slot = torch.repeat_interleave(slots, many)
            place = torch.arange(len(slot), device=self.device) - (torch.cumsum(many, 0) - many)[slot] + lowest[slot]
            free[begin[slot] + closed[place] - low[slot]] = False
        return Children(parent, node, self.tokens.index_select(0, node).long(), free)

    def open_items(self, requests: Tensor, nodes: Tensor) -> Tensor:
        """Return how many items below each node its request may see, int64; shapes of the arguments broadcast."""
        first, last = self.first[nodes].long(), self.last[nodes].long()
        key = requests * (self.trie.n_leaves + 1)
        taken = torch.searchsorted(self._taken, key + last) - torch.searchsorted(self._taken, key + first)
        if self._below is None:
            return last - first - taken
        row = requests if len(self._below) > 1 else torch.zeros_like(requests)
        return self._below[row, last] - self._below[row, first] - taken
