"""The trie: what it holds, what changes it, and what masks leave of it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Ragged
from llm4rec.generative.ids.values import ItemIDs
from llm4rec.generative.trie import Mask, Trie
from llm4rec.generative.walk import Walk
from tests.generative.made import N_TOKENS, catalogues, properties


def same(one: Trie, other: Trie) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Trie))


@properties
@given(catalogues())
def test_holds_every_id_and_no_other(codes: Ragged) -> None:
    trie = Trie.build(codes, N_TOKENS)
    padded = codes.padded(trie.depth, align="left")
    assert np.array_equal(trie.find(padded), np.arange(len(codes)))
    assert np.array_equal(trie.find(np.pad(padded, ((0, 0), (0, 2)), constant_values=3)), np.arange(len(codes)))
    assert np.array_equal(trie.codes(), padded[trie.items])
    assert sorted(map(tuple, trie.codes().tolist())) == list(map(tuple, trie.codes().tolist())), "ranked depth first"
    prefixes = {tuple(row[:at]) for row in codes.tolist() for at in range(len(row) + 1)}
    assert trie.n_nodes == len(prefixes)
    shorter = padded.copy()
    shorter[np.arange(len(codes)), codes.lengths - 1] = -1
    assert (trie.find(shorter) == -1).all()


@properties
@given(catalogues())
def test_a_node_covers_the_items_below_it(codes: Ragged) -> None:
    trie = Trie.build(codes, N_TOKENS)
    rows = codes.tolist()
    for level in range(trie.depth + 1):
        for node in range(trie.levels[level], trie.levels[level + 1]):
            below = trie.items[trie.first[node] : trie.last[node]]
            prefix = rows[below[0]][:level]
            assert sorted(below) == [i for i, row in enumerate(rows) if row[:level] == prefix]
            children = trie.tokens[trie.children[node] : trie.children[node + 1]].tolist()
            assert children == sorted({row[level] for row in rows if row[:level] == prefix and len(row) > level})
            assert trie.leaves()[node] == (rows[below[0]] == prefix)


@properties
@given(catalogues(), st.data())
def test_insert_and_delete_give_what_building_anew_gives(codes: Ragged, data: st.DataObject) -> None:
    whole = Trie.build(codes, N_TOKENS)
    gone = np.array(data.draw(st.lists(st.integers(0, len(codes) - 1), unique=True)), dtype=np.int32)
    kept = np.setdiff1d(np.arange(len(codes)), gone)
    less = Trie.build(codes.take(kept), N_TOKENS, kept, len(codes))
    assert same(whole.delete(gone), less)
    assert same(whole.only(np.isin(np.arange(len(codes)), kept)), less)
    assert same(less.insert(gone, codes.take(gone)), whole)


def test_a_new_item_makes_the_catalogue_grow() -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2]]), 4)
    more = trie.insert(np.array([5, 2]), Ragged.of([[0, 0, 3], [3]]))
    assert (trie.n_items, trie.n_leaves) == (2, 2), "the old one is as it was"
    assert (more.n_items, more.n_leaves, more.depth) == (6, 4, 3)
    assert more.find(np.array([[0, 0, 3], [0, 1, -1], [3, -1, -1], [1, -1, -1]])).tolist() == [5, 0, 2, -1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[0, 1], [0, 1]], "items 0 and 1"),
        ([[0, 1], [2], [0]], "items 2 and 0"),
        ([[0], []], "row 1 of the IDs is empty"),
        ([[0], [9]], r"\[0, 5\)"),
    ],
)
def test_refuses_what_is_no_catalogue(rows: list[list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Trie.build(Ragged.of(rows), N_TOKENS)


@pytest.mark.parametrize(
    ("row", "says"), [([0, 1], "same"), ([0], "begins"), ([0, 1, 2], "begins"), ([7], r"\[0, 5\)"), ([], "empty")]
)
def test_refuses_to_insert_what_is_none(row: list[int], says: str) -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2, 2]]), N_TOKENS)
    with pytest.raises(ValueError, match=says):
        trie.insert(np.array([2]), Ragged.of([row]))


def test_refuses_items_twice_and_items_unknown() -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2, 2]]), N_TOKENS)
    with pytest.raises(ValueError, match="already"):
        trie.insert(np.array([1]), Ragged.of([[4]]))
    with pytest.raises(ValueError, match="twice"):
        trie.insert(np.array([3, 3]), Ragged.of([[4], [3]]))
    with pytest.raises(ValueError, match="does not hold"):
        trie.delete(np.array([0])).delete(np.array([0]))
    with pytest.raises(ValueError, match="does not hold"):
        trie.delete(np.array([2]))


def test_an_empty_catalogue() -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2]]), 4).delete(np.array([0, 1]))
    assert (trie.n_items, trie.n_leaves, trie.depth, trie.n_nodes) == (2, 0, 0, 1)
    assert same(trie.insert(np.array([0, 1]), Ragged.of([[0, 1], [2]])), Trie.build(Ragged.of([[0, 1], [2]]), 4))


def test_in_a_models_own_tokens() -> None:
    ids = ItemIDs.of([[0, 1], [0, 2], [3, 1]], 4)
    trie = Trie.of(ids, np.array([40, 30, 20, 10]), 50)
    assert trie.n_tokens == 50
    assert trie.find(np.array([[40, 30], [40, 20], [10, 30], [0, 1]])).tolist() == [0, 1, 2, -1]
    with pytest.raises(ValueError, match="4 tokens"):
        Trie.of(ids, np.array([1, 2]))


@properties
@given(catalogues(), st.data())
def test_masks_leave_the_nodes_with_an_item_to_see(codes: Ragged, data: st.DataObject) -> None:
    n, n_items = 3, len(codes)
    trie = Trie.build(codes, N_TOKENS)
    draw = data.draw
    exclude = draw(st.none() | st.lists(st.lists(st.integers(0, n_items - 1)), min_size=n, max_size=n).map(Ragged.of))
    shape = draw(st.sampled_from([None, (n_items,), (n, n_items)]))
    allowed = None if shape is None else np.random.default_rng(draw(st.integers(0, 9))).random(shape) < draw(st.floats(0, 1))
    may = np.ones((n, n_items), dtype=bool) if allowed is None else np.broadcast_to(allowed, (n, n_items)).copy()
    if exclude is not None:
        may[exclude.rows, exclude.values] = False
    walk = Walk(trie, Mask.of(trie, n, exclude, allowed))
    counts = np.array([[may[r, trie.items[a:b]].sum() for a, b in zip(trie.first, trie.last, strict=True)] for r in range(n)])
    found = walk.open_items(torch.arange(n)[:, None], torch.arange(trie.n_nodes)[None])
    assert np.array_equal(found.numpy(), counts)
    for level in range(1, trie.depth + 1):
        parents = torch.arange(trie.levels[level - 1], trie.levels[level]).expand(n, -1)
        live = torch.rand(parents.shape) < 0.8
        kids = walk.children(parents, live, level)
        request = kids.parent // parents.shape[1]
        assert np.array_equal(kids.free.numpy(), counts[request.numpy(), kids.node.numpy()] > 0)
        assert np.array_equal(kids.token.numpy(), trie.tokens[kids.node.numpy()])
        expected = [c for r in range(n) for p, on in zip(parents[r].tolist(), live[r].tolist(), strict=True) if on
                    for c in range(trie.children[p], trie.children[p + 1])]  # fmt: skip
        assert kids.node.tolist() == expected


def test_masks_must_fit() -> None:
    trie = Trie.build(Ragged.of([[0], [1]]), 2)
    with pytest.raises(ValueError, match="1 rows of exclude for 2"):
        Mask.of(trie, 2, Ragged.of([[0]]))
    with pytest.raises(ValueError, match="allowed is"):
        Mask.of(trie, 2, None, np.ones(3, dtype=bool))
