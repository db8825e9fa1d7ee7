"""Decoding beside brute force: catalogue items, none twice, none excluded, the best ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, ModelError, Ragged
from llm4rec.generative import search, step
from llm4rec.generative.decode import beam_search, sample, score_all
from llm4rec.generative.trie import Trie
from tests.generative.made import N_TOKENS, Recurrent, catalogues, check, hidden, properties, slowly

N = 3
Normalise = Literal["alphabet", "trie"]
normalisations = st.sampled_from(["alphabet", "trie"])


@st.composite
def masks(draw: st.DrawFn, n_items: int) -> tuple[Ragged | None, NDArray[np.bool_] | None]:
    exclude = draw(st.none() | st.lists(st.lists(st.integers(0, n_items - 1)), min_size=N, max_size=N).map(Ragged.of))
    shape = draw(st.sampled_from([None, (n_items,), (N, n_items)]))
    allowed = None if shape is None else np.random.default_rng(draw(st.integers(0, 9))).random(shape) < draw(st.floats(0, 1))
    return exclude, allowed


@properties
@given(catalogues(), st.data(), normalisations, st.integers(1, 12))
def test_with_enough_beams_it_finds_what_brute_force_finds(
    codes: Ragged, data: st.DataObject, normalise: Normalise, k: int
) -> None:
    exclude, allowed = data.draw(masks(len(codes)))
    model, trie = Recurrent(N), Trie.build(codes, N_TOKENS)
    scores = hidden(slowly(model, codes, normalise), exclude, allowed)
    found = beam_search(model, trie, k, beams=len(codes), exclude=exclude, allowed=allowed, normalise=normalise)
    check(found, scores, k)
    expected = Lists.from_scores(scores, k)
    assert np.array_equal(found.items, expected.items)
    assert np.allclose(found.scores, expected.scores, atol=1e-4, equal_nan=True)


@properties
@given(catalogues(), st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.floats(0, 5))
def test_with_few_beams_it_fills_its_lists_with_items_that_may_be_seen(
    codes: Ragged, data: st.DataObject, k: int, beams: int, groups: int, diversity: float
) -> None:
    exclude, allowed = data.draw(masks(len(codes)))
    model, trie = Recurrent(N), Trie.build(codes, N_TOKENS)
    scores = hidden(slowly(model, codes), exclude, allowed)
    found = beam_search(
        model, trie, k, beams=beams, exclude=exclude, allowed=allowed, groups=min(groups, beams), diversity=diversity
    )
    check(found, scores, k)
    own = np.take_along_axis(scores, np.maximum(found.items, 0), axis=1)
    assert np.allclose(np.where(found.items < 0, np.nan, own), found.scores, atol=1e-4, equal_nan=True), "scores are true"


@properties
@given(catalogues(), st.data(), st.integers(1, 12), st.integers(0, 1000), st.floats(0.2, 5))
def test_samples_are_items_that_may_be_seen(codes: Ragged, data: st.DataObject, k: int, seed: int, temperature: float) -> None:
    exclude, allowed = data.draw(masks(len(codes)))
    model, trie = Recurrent(N), Trie.build(codes, N_TOKENS)
    rng = np.random.default_rng(seed)
    found = sample(model, trie, k, rng=rng, temperature=temperature, exclude=exclude, allowed=allowed)
    check(found, hidden(slowly(model, codes), exclude, allowed), k)


@properties
@given(catalogues(), normalisations, st.integers(1, 40))
def test_scores_every_item(codes: Ragged, normalise: Normalise, width: int) -> None:
    model, trie = Recurrent(N), Trie.build(codes, N_TOKENS)
    found = score_all(model, trie, normalise=normalise, width=width)
    assert found.dtype == np.float32
    assert np.allclose(found, slowly(model, codes, normalise), atol=1e-4)
    if normalise == "trie":
        assert np.allclose(np.exp(found).sum(axis=1), 1, atol=1e-4), "the items' probabilities"


def test_a_shared_prefix_is_computed_once() -> None:
    codes = Ragged.of([[0, a, b] for a in range(4) for b in range(5)])
    model = Recurrent(2)
    score_all(model, Trie.build(codes, N_TOKENS), width=8)
    # copies count their own: what they were copied from has advanced nothing
    seen: list[int] = []
    kept = Recurrent.advance

    def counted(self: Recurrent, parents: Tensor, tokens: Tensor) -> Tensor:
        seen.append(tokens.numel())
        return kept(self, parents, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recurrent, "advance", counted)
        score_all(model, Trie.build(codes, N_TOKENS), width=8)
    assert sum(seen) == 2 * (1 + 4), "the prefixes [0] and [0, a] of each request, and no whole ID"
    assert max(seen) <= 8


def test_the_mask_of_one_request_is_not_anothers_and_does_not_change_scores() -> None:
    codes = Ragged.of([[a, b] for a in range(3) for b in range(3)])
    trie = Trie.build(codes, N_TOKENS)
    full = score_all(Recurrent(N), trie, normalise="trie")
    exclude = Ragged.of([[0, 1, 2], [], [8]])
    found = beam_search(Recurrent(N), trie, 9, exclude=exclude, normalise="trie")
    assert found.lengths.tolist() == [6, 9, 8]
    assert np.allclose(found.scores[1], np.sort(full[1])[::-1], atol=1e-5)
    assert np.allclose(found.scores[0, :6], np.take_along_axis(full[0], found.items[0, :6], 0), atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3, 20])
def test_equal_items_stand_in_order_of_inside_id(beams: int) -> None:
    rng = np.random.default_rng(0)
    codes = Ragged.of(rng.permutation([[a, b] for a in range(5) for b in range(5)]))
    flat = Recurrent(N, sharpness=0.0)
    found = beam_search(flat, Trie.build(codes, N_TOKENS), 5, beams=beams)
    assert (np.diff(found.items, axis=1) > 0).all()
    if beams == 20:  # every first token is kept, so all items are met
        assert found.items.tolist() == [[0, 1, 2, 3, 4]] * N
    assert np.array_equal(found.items, beam_search(flat, Trie.build(codes, N_TOKENS), 5, beams=beams).items)


def test_a_batch_gives_what_single_requests_give() -> None:
    codes = Ragged.of([[a, b, c] for a in range(5) for b in range(5) for c in range(3)])
    trie, exclude = Trie.build(codes, N_TOKENS), Ragged.of([[0, 1], [], [30, 31, 32]])
    together = beam_search(Recurrent(N), trie, 8, beams=4, exclude=exclude)
    for row in range(N):
        alone = Recurrent(N)
        alone.start = alone.start[row : row + 1]
        one = beam_search(alone, trie, 8, beams=4, exclude=exclude.take(np.array([row])))
        assert np.array_equal(one.items[0], together.items[row])


@pytest.mark.parametrize("cells", [1, 7, 40])
def test_small_blocks_change_nothing(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[a, b, c] for a in range(4) for b in range(5) for c in range(3)] + [[4]]
    trie, exclude = Trie.build(Ragged.of(rows), N_TOKENS), Ragged.of([[0, 60], [], list(range(40))])
    find = lambda: [  # noqa: E731
        beam_search(Recurrent(N), trie, 9, beams=4, exclude=exclude),
        beam_search(Recurrent(N), trie, 9, beams=4, exclude=exclude, normalise="trie", groups=2, diversity=1.0),
    ]
    before, scores = find(), score_all(Recurrent(N), trie)
    monkeypatch.setattr(step, "CELLS", cells)
    monkeypatch.setattr(search, "CELLS", cells)
    for one, other in zip(before, find(), strict=True):
        assert np.array_equal(one.items, other.items)
    assert np.allclose(scores, score_all(Recurrent(N), trie), atol=1e-5)


def test_one_group_is_plain_beam_search_and_groups_are_diverse() -> None:
    codes = Ragged.of([[a, b, c] for a in range(5) for b in range(5) for c in range(5)])
    trie = Trie.build(codes, N_TOKENS)

    def first_tokens(groups: int, diversity: float) -> float:
        found = beam_search(Recurrent(40, sharpness=1.0), trie, 8, beams=8, groups=groups, diversity=diversity)
        return float(np.mean([len(set(row // 25)) for row in found.items]))

    assert first_tokens(4, 5.0) > first_tokens(4, 0.0) + 0.5
    assert first_tokens(4, 5.0) > first_tokens(1, 0.0) + 0.5
    plain = beam_search(Recurrent(N), trie, 8, beams=8)
    assert np.array_equal(plain.items, beam_search(Recurrent(N), trie, 8, beams=8, groups=1, diversity=3.0).items)


def test_first_draws_have_the_models_distribution_and_later_ones_what_is_left() -> None:
    codes = Ragged.of([[0, 0], [0, 1], [1], [2, 0, 0], [2, 0, 1], [2, 1]])
    trie, n = Trie.build(codes, N_TOKENS), 20_000
    model = Recurrent(1, sharpness=0.5)
    chance = np.exp(slowly(model, codes, "trie"))[0]
    model.start = model.start.expand(n, -1, -1)
    found = sample(model, trie, 2, rng=np.random.default_rng(0))
    first = np.bincount(found.items[:, 0], minlength=6) / n
    assert np.abs(first - chance).max() < 4 * np.sqrt(0.25 / n)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (found.items[:, 0], found.items[:, 1]), 1 / n)
    without = chance[:, None] * chance[None, :] / (1 - chance[:, None])
    np.fill_diagonal(without, 0)
    assert np.abs(pairs - without).max() < 4 * np.sqrt(0.25 / n)
    again = sample(model, trie, 2, rng=np.random.default_rng(0))
    assert np.array_equal(found.items, again.items), "a seed gives the same draws"


def test_a_high_temperature_evens_chances_out() -> None:
    codes = Ragged.of([[a] for a in range(5)])
    model = Recurrent(1, sharpness=3.0)
    model.start = model.start.expand(4000, -1, -1)
    trie = Trie.build(codes, 5)
    drawn = [sample(model, trie, 1, rng=np.random.default_rng(1), temperature=t).items[:, 0] for t in (0.1, 1.0, 100.0)]
    spread = [np.bincount(items, minlength=5).max() for items in drawn]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1000


def test_nothing_to_find() -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2]]), N_TOKENS)
    assert beam_search(Recurrent(N), trie.delete(np.array([0, 1])), 2).items.tolist() == [[-1, -1]] * N
    assert beam_search(Recurrent(N), trie, 2, allowed=np.zeros(2, dtype=bool)).items.tolist() == [[-1, -1]] * N
    assert beam_search(Recurrent(N), trie, 0).items.shape == (N, 0)
    assert beam_search(Recurrent(0), trie, 2).items.shape == (0, 2)
    assert np.isneginf(score_all(Recurrent(N), trie.delete(np.array([0])))).tolist() == [[True, False]] * N
    assert score_all(Recurrent(0), trie).shape == (0, 2)


def test_nan_is_an_error_and_wrong_numbers_are() -> None:
    trie = Trie.build(Ragged.of([[0, 1], [2]]), N_TOKENS)
    model = Recurrent(N)
    model.out = model.out * torch.nan
    for call in (lambda: beam_search(model, trie, 2), lambda: score_all(model, trie)):
        with pytest.raises(ModelError, match="Recurrent: gave nan"):
            call()
    for wrong in ({"beams": 0}, {"groups": 0}, {"beams": 2, "groups": 3}, {"diversity": -1.0}):
        with pytest.raises(ValueError, match="needs"):
            beam_search(Recurrent(N), trie, 2, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature"):
        sample(Recurrent(N), trie, 2, rng=np.random.default_rng(0), temperature=0)


@properties
@given(st.integers(0, 1000))
def test_beams_are_those_of_a_search_written_with_dictionaries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, N_TOKENS, (60, 3)), axis=0)
    model, trie = Recurrent(1, seed), Trie.build(Ragged.of(rows), N_TOKENS)
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for level in range(3):
        longer: dict[tuple[int, ...], float] = {}
        for prefix, score in beams.items():
            states = model.begin()
            for token in prefix:
                states = model.advance(torch.zeros((1, 1), dtype=torch.int64), torch.tensor([[token]]))
            chances = torch.log_softmax(model.logits(states[:, 0], None), 1)[0]
            for token in {int(r[level]) for r in rows if tuple(r[:level]) == prefix}:
                longer[*prefix, token] = score + float(chances[token])
        beams = dict(sorted(longer.items(), key=lambda e: -e[1])[:4])
    found = beam_search(model, trie, 4, beams=4)
    assert [tuple(rows[i]) for i in found.items[0]] == list(beams)
