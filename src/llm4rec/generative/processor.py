"""The trie for ``generate`` of transformers: a logits processor that leaves the tokens of items alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, Ragged
from llm4rec.generative.trie import Mask, Trie
from llm4rec.generative.walk import Walk

#: What ``generate`` gives beams that hold nothing.
_NOTHING = -1e8


class TrieLogitsProcessor:
    """Constrains ``generate`` of any causal or encoder-decoder model to IDs of the catalogue.

    ``model.generate(..., logits_processor=[TrieLogitsProcessor(trie, n, start)])``, with beams, groups of
    beams or sampling.  ``prefix_allowed_tokens_fn`` is asked in Python for each beam and step; this asks the
    trie once a step for all.  Nodes are carried: a row's new token is looked up among the children that were
    allowed to the beam it comes from, which is the one with the same tokens before it.

    A whole ID is followed by ``eos`` with certainty (a score of 0), so that a beam's score is that of its ID; give
    ``generate`` ``length_penalty=0.0`` where IDs differ in length.  Without ``eos``, for IDs of one length, give it
    ``max_new_tokens=trie.depth``.

    Args:
        trie: in the model's tokens (``Trie.of(ids, vocabulary, size)``), ``n_tokens`` of them.
        n: requests in the batch, without beams.
        start: tokens before the ID: the width of a causal model's ``input_ids``; 1 for an encoder-decoder.
        eos: the token that ends what is generated; None if there is none.
        exclude, allowed: as in ``decode.beam_search``.
    """

    def __init__(
        self,
        trie: Trie,
        n: int,
        start: int,
        *,
        eos: int | None = None,
        exclude: Ragged | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> None:
        leaves = trie.leaves()
        if eos is None and leaves[: trie.levels[-2]].any():
            raise ValueError("IDs differ in length, so what follows a whole one must be given: eos=")
        self.trie, self.n, self.start, self.eos = trie, n, start, eos
        self._exclude, self._mask = exclude, Mask.of(trie, n, exclude, allowed)
        self._walk: Walk | None = None
        self._ids: Tensor | None = None  # [rows, t], as of the last call, and what was allowed to them:
        self._keys, self._nodes = torch.empty(0), torch.empty(0)  # row * n_tokens + token, rising; nodes
        self._shared = 1  # rows that stand for one there, side by side

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores float[rows, n_tokens] with -inf for what no item allows.

        Args:
            input_ids: int64[rows, t]; the same number of rows for each request, its own side by side.
            scores: float[rows, n_tokens].
        """
        rows, wide = scores.shape
        if wide != self.trie.n_tokens or rows % self.n:
            raise ValueError(f"scores are [{rows}, {wide}] for {self.n} requests and {self.trie.n_tokens} tokens")
        if self._walk is None or self._walk.device != scores.device:
            self._walk, self._ids = Walk(self.trie, self._mask, scores.device), None
        nodes = self._reached(input_ids)  # [rows]
        level = input_ids.shape[1] - self.start + 1
        nodes = nodes.view(self.n, -1)[:, :1] if level == 1 else nodes.view(self.n, -1)  # all are at the root: once a request
        self._ids, self._shared = input_ids.clone(), rows // nodes.numel()
        self._keys = self._nodes = nodes.new_empty(0)
        open_rows = torch.zeros(nodes.numel(), dtype=torch.bool, device=scores.device)
        if level <= self.trie.depth:
            kids = self._walk.children(nodes.clamp(min=0), nodes >= 0, level)
            parent, self._keys, self._nodes = kids.parent, kids.parent * wide + kids.token, kids.node
            if self._walk.masked:
                parent, self._keys, self._nodes = (a[kids.free] for a in (parent, self._keys, self._nodes))
            open_rows.scatter_(0, parent, True)
        if self._shared == 1:  # few tokens of a wide row are allowed: they alone are copied
            out = torch.full_like(scores, -torch.inf)
            out.view(-1).scatter_(0, self._keys, scores.reshape(-1).gather(0, self._keys))
        else:  # at the root nearly all may be: one row of 0 and -inf for all rows of a request
            barred = scores.new_full((nodes.numel(), 1, wide), -torch.inf)
            barred.view(-1).scatter_(0, self._keys, 0.0)
            out = (scores.reshape(len(barred), self._shared, wide) + barred).view(rows, wide)
        if not bool(open_rows.all()):
            # Nothing follows: a whole ID, or a row that generate itself has given up or ended.  A row must allow something.
            out[torch.repeat_interleave(~open_rows, self._shared), self.eos or 0] = 0.0
        return out

    def _reached(self, ids: Tensor) -> Tensor:
        """Return int64[rows], the node of each row's tokens behind the start; -1 where they lead out of the trie."""
        t = ids.shape[1] - self.start
        if t < 0:
            raise ValueError(f"{ids.shape[1]} tokens, of which {self.start} should stand before the ID")
        if self._ids is not None and self._ids.shape[1] == ids.shape[1] - 1 and t:
            before, then = (a.unflatten(0, (self.n, -1)) for a in (ids[:, self.start : -1], self._ids[:, self.start :]))
            same = (before[:, :, None] == then[:, None]).all(3)  # [n, beams, beams then]
            if bool(same.any(2).all()):
                first = same.shape[2] * torch.arange(self.n, device=ids.device)[:, None]
                return self._looked_up((same.to(torch.uint8).argmax(2) + first).view(-1), ids[:, -1])
        node = np.zeros(len(ids), dtype=np.int64)
        for token in ids[:, self.start :].cpu().numpy().T:
            node = self.trie.step(node, token)
        return torch.from_numpy(node).to(ids.device)

    def _looked_up(self, parents: Tensor, tokens: Tensor) -> Tensor:
        if not len(self._keys):
            return torch.full_like(parents, -1)
        key = parents // self._shared * self.trie.n_tokens + tokens
        at = torch.searchsorted(self._keys, key).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[at] == key, self._nodes[at], -1)

    def lists(self, sequences: Tensor, scores: Tensor | None, k: int) -> Lists:
        """Return what ``generate`` has returned as lists of items.

        Args:
            sequences: int64[n * r, t], r for each request, whatever stood before the ID included.
            scores: float[n * r], ``sequences_scores`` of beams; None gives the places in their order.
            k: length of the lists.

        ``generate`` fills up with beams that hold nothing where it finds too few; they are left out.
        """
        items = self.trie.find(sequences[:, self.start :].cpu().numpy()).reshape(self.n, -1)  # [n, r]
        places = -np.arange(items.shape[1], dtype=np.float32)
        value = np.broadcast_to(places, items.shape) if scores is None else scores.cpu().numpy().reshape(items.shape)
        again = np.triu(items[:, :, None] == items[:, None, :], 1).any(axis=1)
        gone = (items < 0) | again | ~(value > _NOTHING)
        if self._exclude is not None:
            gone |= self._exclude.contains(items, self.trie.n_items)
        return Lists.from_pools(np.where(gone, -1, items), np.where(gone, -np.inf, value), k)
