"""A language model with tokens for items: the contract, what it is trained on, merging, going on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from llm4rec.core import ModelError, Ragged, RunError, SpecError
from llm4rec.generative.item_llm import ItemLLM, ItemLLMConfig
from llm4rec.generative.item_llm_examples import Examples, Sequences
from llm4rec.generative.item_llm_network import Network
from llm4rec.generative.item_llm_training import TuningConfig, steps_of
from tests import worlds
from tests.contracts import RetrieverContract, ScoringContract
from tests.generative.tiny_llm import tiny_llm

RNG = np.random.default_rng
CYCLE = worlds.cycle().split
SMALL: dict[str, Any] = {
    "ids": {"scheme": "random", "levels": 2, "codebook": 6}, "length": 6, "epochs": 8, "pass_tokens": 512, "passes": 1,
    "learning_rate": 5e-3, "token_rate": 3e-2, "dropout": 0.0, "patience": 20, "valid_cases": 20, "device": "cpu",
    "dtype": "float32", "to_title": 0.1, "to_id": 0.1,
}  # fmt: skip


def config(**changes: Any) -> ItemLLMConfig:
    return ItemLLMConfig.model_validate({**SMALL, "checkpoint": tiny_llm(), **changes})


def fitted(seed: int = 0, **changes: Any) -> ItemLLM:
    return ItemLLM(config(**changes)).fit(CYCLE.train, valid=None, rng=RNG(seed))


class TestItemLLM(ScoringContract):
    component = ItemLLM
    configs: ClassVar[dict[str, Any]] = SMALL
    world = worlds.cycle()
    expected = 0.8
    uses_valid = True

    def config(self) -> ItemLLMConfig:
        return config()


@pytest.mark.slow
class TestByBeams(RetrieverContract):
    component = ItemLLM
    configs: ClassVar[dict[str, Any]] = SMALL | {"search": "beam", "beams": 8}
    world = worlds.cycle()
    expected = 0.8
    uses_valid = True
    exact = False

    def config(self) -> ItemLLMConfig:
        return config(search="beam", beams=8)


@pytest.fixture(scope="module")
def untuned() -> ItemLLM:
    return fitted(epochs=0)


# -- what it is trained on ------------------------------------------------------------------
def examples(network: Network, model: ItemLLM, **changes: Any) -> Examples:
    names = model._names(CYCLE.train, network)
    given = {"length": 4, "to_title": 0.25, "to_id": 0.25} | changes
    return Examples(CYCLE.train, model._codes, names, model._encoded, **given)


def text(model: ItemLLM, tokens: np.ndarray) -> str:
    return str(model.network_._tokenizer.decode(tokens.tolist()))


def test_every_event_but_a_first_is_an_answer_once_and_a_window_reads_as_much_as_a_question(untuned: ItemLLM) -> None:
    made = examples(untuned.network_, untuned)
    events, depth, opening = CYCLE.train.histories.items, untuned.ids_.depth, len(untuned._opening)
    item_of = {tuple(codes): item for item, codes in enumerate(untuned._codes.tolist())}
    after = sorted(int(item) for row in events.tolist() for item in row[1:])
    cuts = set()
    for seed in range(4):
        drawn = made.histories(RNG(seed))
        items = (drawn.tokens.lengths - opening) // depth
        assert (items.min(), items.max()) == (2, 5)  # four items are read, and the fifth is the answer
        assert not drawn.answers[(drawn.tokens.offsets[:-1][:, None] + np.arange(opening + depth)).ravel()].any()
        answered = drawn.tokens.values[drawn.answers].reshape(-1, depth)
        assert sorted(item_of[tuple(codes)] for codes in answered.tolist()) == after
        cuts.add(tuple(items.tolist()))
    assert len(cuts) > 1, "long histories are cut anew each time"
    assert text(untuned, drawn.tokens[0]).startswith("The user took, in this order:<id:<a_")


def test_short_histories_are_whole(untuned: ItemLLM) -> None:
    drawn = examples(untuned.network_, untuned, length=50).histories(RNG(0))
    assert len(drawn) == len(CYCLE.train.histories.items)
    assert np.array_equal(
        untuned._codes.take(CYCLE.train.histories.items[3]).values, drawn.tokens[3][len(untuned._opening) :]
    )  # fmt: skip


def test_new_tokens_start_from_the_names_of_their_items_and_from_nothing_else(untuned: ItemLLM) -> None:
    network, ids = untuned.network_, untuned.ids_
    rows = network.model.get_input_embeddings().weight.detach().float()
    token = int(ids.codes[0][0])
    named = [i for i in range(len(ids)) if token in ids.codes[i]]
    pieces = [t for i in named for t in network.tokens.of(f" {CYCLE.train.item_table['title'][i]}")]
    torch.testing.assert_close(rows[network.first + token], rows[pieces].mean(0))
    alone = ItemLLM(config(epochs=0, to_title=0.0, to_id=0.0)).fit(CYCLE.train, valid=None, rng=RNG(0))
    again = alone.network_.model.get_input_embeddings().weight.detach().float()
    torch.testing.assert_close(again[network.first :], rows[network.first :])  # without the tasks they start there, too


def test_names_are_asked_of_ids_and_ids_of_names(untuned: ItemLLM) -> None:
    made = examples(untuned.network_, untuned)
    title, item = CYCLE.train.item_table["title"][7], np.array([7])
    ids = text(untuned, untuned._codes[7])
    for task, whole, answer in (
        ("title", f"The item{ids} is called {title}<|end|>", f" {title}<|end|>"),
        ("id", f"The item called {title} is{ids}", ids),
    ):
        row = made.aligned(task, item)
        assert text(untuned, row.tokens[0]) == whole
        assert text(untuned, row.tokens[0][row.answers]) == answer


def test_tasks_have_their_shares(untuned: ItemLLM) -> None:
    made = examples(untuned.network_, untuned, to_title=0.3, to_id=0.1)
    epoch, alone = made.draw(RNG(0)), made.histories(RNG(0))
    assert len(epoch) == len(alone) + round(len(alone) * 0.3 / 0.6) + round(len(alone) * 0.1 / 0.6)
    assert examples(untuned.network_, untuned, to_title=0.0, to_id=0.0).draw(RNG(0)).tokens.tolist() == alone.tokens.tolist()
    with pytest.raises(ValidationError, match="below 1"):
        config(to_title=0.5, to_id=0.5)


def test_passes_hold_every_sequence_once_and_no_more_tokens_than_allowed() -> None:
    lengths = RNG(0).integers(1, 40, size=200)
    sequences = Sequences(Ragged.from_lengths(lengths, np.arange(lengths.sum())), np.ones(lengths.sum(), dtype=bool))
    steps = steps_of(sequences, TuningConfig(pass_tokens=100, passes=3), RNG(0))
    passes = [rows for step in steps for rows in step]
    assert np.array_equal(np.sort(np.concatenate(passes)), np.arange(200))
    assert max(len(rows) * lengths[rows].max() for rows in passes) <= 100
    assert all(len(step) == 3 for step in steps[:-1])
    longer = steps_of(sequences, TuningConfig(pass_tokens=10), RNG(0))
    assert sum(len(rows) for step in longer for rows in step) == 200, "one that is too long goes alone"
    tokens, answers = sequences.padded(passes[0])
    assert answers.sum() == lengths[passes[0]].sum()
    assert np.array_equal(np.sort(tokens[answers]), np.sort(sequences.tokens.take(passes[0]).values))


def test_pads_change_no_loss() -> None:
    network = Network.opened(tiny_llm(), device="cpu", dtype="float32")
    rows = Sequences(Ragged.of([[5, 6, 7], [8, 9, 10, 11, 12, 13]]), np.array([False, True, True] + [False] + [True] * 5))
    with torch.inference_mode():
        both = network.loss(*rows.padded(np.array([0, 1])))
        apart = [float(network.loss(*rows.padded(np.array([i])))) for i in (0, 1)]
    np.testing.assert_allclose(float(both), sum(apart), rtol=1e-5)


# -- tokens, tuning, merging ----------------------------------------------------------------
@pytest.mark.parametrize("tied", [True, False])
def test_only_the_new_tokens_and_the_layers_change_and_merging_keeps_the_answers(tied: bool) -> None:
    network = Network.opened(tiny_llm(tied), device="cpu", dtype="float32")
    network.extend(["a", "b", "c"], [[3, 4], [5], []])
    first, read = network.first, network.model.get_input_embeddings().weight.detach().clone()
    assert torch.allclose(read[first], read[[3, 4]].mean(0))
    assert torch.allclose(read[first + 2], read[:first].mean(0))
    network.adapt(rank=4, alpha=8.0, dropout=0.0)
    tokens = np.array([[3, first, first + 1, 7, 8]])
    answers = np.array([[False, True, True, False, True]])
    optimizer = torch.optim.Adam([value for _, value in network.trained()], lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = network.loss(tokens, answers)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    with torch.inference_mode():
        adapted = network.model(input_ids=torch.from_numpy(tokens)).logits.clone()
        steps = network.steps(Ragged.of([[3, first]]))
        states = steps.begin()
        assert torch.allclose(steps.logits(states[:, 0], None), adapted[:, 1], atol=1e-5), "decoded before the merge"
        network.merge()
        assert torch.allclose(network.model(input_ids=torch.from_numpy(tokens)).logits, adapted, atol=1e-4)
    for layer in (network.model.get_input_embeddings(), network.model.get_output_embeddings()):
        assert not torch.allclose(layer.weight[first : first + 2], read[first : first + 2])
    now = network.model.get_input_embeddings().weight
    assert torch.equal(now[:first], read[:first])
    assert (network.model.get_output_embeddings().weight is now) == tied
    assert not [name for name, _ in network.model.named_parameters() if "lora" in name]


def test_what_is_saved_is_a_model_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = fitted(epochs=1)
    model.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    prompt = "The user took, in this order:" + "".join(
        model.network_._tokenizer.convert_ids_to_tokens(model._codes[3].tolist())
    )
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == [*model._opening, *model._codes[3].tolist()]
    with torch.inference_mode():
        assert torch.allclose(other(input_ids=ids).logits, model.network_.model(input_ids=ids).logits, atol=1e-5)


def test_titles_cannot_spell_an_item(untuned: ItemLLM) -> None:
    assert max(untuned.network_.tokens.of("<id:<a_1>> and <|end|>")) < untuned.first_
    assert 0 not in untuned.network_.tokens.of("<|end|>")


def test_titles_as_ids_bring_no_tokens() -> None:
    model = fitted(ids={"scheme": "title"}, epochs=1)
    assert model.network_.added == 0
    assert model.network_.size == 400
    found = model.retrieve(CYCLE.test.queries, 5, exclude=CYCLE.test.exclude("seen"))
    found.check(24, exclude=CYCLE.test.exclude("seen"))


# -- controls -------------------------------------------------------------------------------
def test_untuned_it_still_names_items_alone(untuned: ItemLLM) -> None:
    assert untuned.training_ == []
    found = untuned.retrieve(CYCLE.test.queries, 10, exclude=CYCLE.test.exclude("seen"))
    found.check(24, exclude=CYCLE.test.exclude("seen"))
    np.testing.assert_allclose(np.exp(untuned.score(CYCLE.test.queries)).sum(axis=1), 1.0, rtol=1e-3)


# -- going on after a kill --------------------------------------------------------------------
class Killed(BaseException):
    """Stands for a kill: nothing in the code catches it."""


def test_a_training_that_is_killed_twice_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"epochs": 2, "dropout": 0.2, "pass_tokens": 256}
    whole = ItemLLM(config(**how)).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    loss, left = Network.loss, [0]

    def killing(self: Network, *args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return loss(self, *args)

    def again(passes: int, seed: int = 0) -> ItemLLM:
        left[0] = passes
        kept = config(**how, keep=tmp_path, keep_every=2)
        return ItemLLM(kept).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(seed))

    monkeypatch.setattr(Network, "loss", killing)
    for passes in (4, 40):  # in the middle of the first epoch, then of the second
        with pytest.raises(Killed):
            again(passes)
    last = again(100)
    assert 0 < 100 - left[0] < 40, "not all of it was done again"
    pairs = zip(whole.network_.model.parameters(), last.network_.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [{**r, "seconds": 0} for r in last.training_] == [{**r, "seconds": 0} for r in whole.training_]
    again(1)  # a finished training is not done again
    with pytest.raises(Killed):
        again(1, seed=1)  # another one begins


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    fitted(epochs=1, keep=tmp_path)
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.write_bytes(b"no tensors")
    with pytest.raises(RunError, match="cannot read a kept training"):
        fitted(epochs=1, keep=tmp_path)


# -- errors -----------------------------------------------------------------------------------
def test_errors_are_lines_that_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read a language model"):
        fitted(checkpoint=str(tmp_path))
    with pytest.raises(SpecError, match=r"length: 200 items of 2 tokens do not fit into 256; take fewer"):
        fitted(length=200)
    with pytest.raises(SpecError, match="plot"):
        fitted(template="{plot}")
    with pytest.raises(SpecError, match="training diverged"):
        fitted(learning_rate=1e30, token_rate=1e30, epochs=2)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no GPU"):
            fitted(device="cuda")


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.timeout(900)
def test_the_embedded_model_is_tuned_and_decoded(asset: Any) -> None:
    asset("smollm2-135m-instruct")
    small = {"ids": SMALL["ids"], "length": 6, "epochs": 2, "pass_tokens": 512, "passes": 1, "valid_cases": 10}
    model = ItemLLM(ItemLLMConfig.model_validate(small)).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    assert model.training_[1]["loss"] < 0.8 * model.training_[0]["loss"]
    cases = CYCLE.test.take(np.arange(16))
    model.retrieve(cases.queries, 10, exclude=cases.exclude("seen")).check(24, exclude=cases.exclude("seen"))
