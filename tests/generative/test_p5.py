"""P5: the contract, prompts and whole words, exact scores by the model's own forward pass, the other tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from llm4rec.core import DataError, Lists, ModelError, Queries, Ragged
from llm4rec.generative.p5 import P5, P5Config
from llm4rec.generative.p5_tasks import Examples, read_texts
from tests import worlds
from tests.contracts import RetrieverContract, ScoringContract

RNG = np.random.default_rng
SMALL: dict[str, Any] = {
    "ids": {"scheme": "random", "levels": 2, "codebook": 6}, "width": 32, "layers": 1, "heads": 2, "head_width": 16,
    "hidden": 32, "length": 1, "epochs": 7, "batch_size": 64, "learning_rate": 1e-2, "dropout": 0.0, "targets": 0,
    "tasks": ("sequential",), "whole_words": 32, "every": 10,
}  # fmt: skip
CYCLE = worlds.cycle().split


class TestP5(ScoringContract):
    component = P5
    configs: ClassVar[dict[str, Any]] = SMALL
    world = worlds.cycle()
    expected = 0.8
    uses_valid = True


@pytest.mark.slow
class TestByBeams(RetrieverContract):
    component = P5
    configs: ClassVar[dict[str, Any]] = SMALL | {"search": "beam", "beams": 8}
    world = worlds.cycle()
    expected = 0.8
    uses_valid = True
    exact = False


@pytest.fixture(scope="module")
def fitted() -> P5:
    config = P5Config.model_validate(SMALL | {"epochs": 2, "tasks": ("sequential", "direct"), "ids": {"scheme": "title"}})
    return P5(config).fit(CYCLE.train, valid=None, rng=RNG(0))


# -- prompts --------------------------------------------------------------------------------
def test_prompts_name_users_by_number_and_items_by_id(fitted: P5) -> None:
    history = np.array([[-1, 3], [5, 4]])
    prompts = fitted._ask("sequential", np.array([7, -1]), history=history)
    words = fitted.alphabet_.text.written

    def text(row: int) -> str:
        tokens = prompts.tokens[row][prompts.real[row]]
        return "".join(words[t] for t in tokens).replace("▁", " ").strip()

    titles = CYCLE.train.item_table["title"]
    assert text(0) == f"user 7 has taken {titles[3]}</s> and takes next"
    assert text(1) == f"user has taken {titles[5]}</s> {titles[4]}</s> and takes next"
    assert not prompts.tokens[0][~prompts.real[0]].any()  # pads behind the end


def test_all_tokens_of_an_item_are_one_whole_word(fitted: P5) -> None:
    prompts = fitted._ask("sequential", np.array([7]), history=np.array([[5, 4]]))
    numbers = prompts.words[0][prompts.real[0]].tolist()
    first, second = (len(fitted.alphabet_.ids.codes[item]) for item in (5, 4))
    assert numbers == sorted(numbers)
    assert numbers.count(4) == first  # after user, 7, has, taken
    assert numbers.count(5) == second
    assert max(numbers) == 8  # and, takes, next


def test_far_words_share_the_last_number() -> None:
    model = P5(P5Config.model_validate(SMALL | {"whole_words": 3, "epochs": 1})).fit(CYCLE.train, valid=None, rng=RNG(0))
    prompts = model._ask("sequential", np.array([7]), history=np.array([[5, 4]]))
    assert prompts.words.max() == 2
    assert model.network_.words.weight.shape == (3, 32)


# -- scores ---------------------------------------------------------------------------------
def test_scores_are_what_the_whole_model_says_of_each_id(fitted: P5) -> None:
    """Against transformers' own forward pass, probabilities taken over the tokens that the trie has."""
    queries = CYCLE.test.queries.take(np.arange(2))
    scores, alphabet, t5 = fitted.score(queries), fitted.alphabet_, fitted.network_.t5
    prompts = fitted._ask("sequential", queries.users, history=queries.history.padded(fitted.config.length))
    embeds, mask = fitted.network_._embedded(prompts)
    rows = [[int(t) for t in row if t >= 0] for row in alphabet.items[:-1]]
    with torch.inference_mode():
        for item, row in enumerate(rows):
            before = torch.tensor([[0, *row[:-1]]] * 2)
            logits = t5(inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=before).logits
            total = np.zeros(2)
            for at, token in enumerate(row):
                free = sorted({other[at] for other in rows if other[:at] == row[:at] and len(other) > at})
                total += torch.log_softmax(logits[:, at, free], -1)[:, free.index(token)].numpy()
            np.testing.assert_allclose(scores[:, item], total, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0, rtol=1e-4)


def test_known_users_without_history_are_asked_directly(fitted: P5) -> None:
    scores = fitted.score(Queries.of(Ragged.empty(3), users=np.array([0, 1, -1])))
    assert not np.allclose(scores[0], scores[2])
    assert np.array_equal(scores[2], fitted._popular())
    assert np.array_equal(fitted.score(Queries.of(Ragged.empty(1), users=np.array([9999])))[0], scores[2])


def test_beams_find_what_exact_scores_say(fitted: P5) -> None:
    cases = CYCLE.test.take(np.arange(20))
    exact = fitted.retrieve(cases.queries, 3, exclude=cases.exclude("seen"))
    by_beams = P5(fitted.config.model_copy(update={"search": "beam", "beams": 24}))
    by_beams.restore(fitted.state())
    found = by_beams.retrieve(cases.queries, 3, exclude=cases.exclude("seen"))
    assert np.array_equal(found.items, exact.items)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-3)


# -- ratings --------------------------------------------------------------------------------
def test_ratings_are_means_of_their_texts_probabilities() -> None:
    """Items of even number get one star, the others five; a rating is told by its item's ID."""
    stars = pl.when(pl.col("item") % 2 == 0).then(1.0).otherwise(5.0)
    train = CYCLE.train.with_events(CYCLE.train.events.with_columns(value=stars))
    config = SMALL | {"tasks": ("rating",), "side_targets": 0, "epochs": 4, "ids": {"scheme": "single"}}
    model = P5(P5Config.model_validate(config)).fit(train, valid=None, rng=RNG(0))
    items = np.arange(24, dtype=np.int32)
    predicted = model.predict(CYCLE.test.queries.take(items), items)
    assert predicted.dtype == np.float32
    assert 1.0 <= predicted.min() <= predicted.max() <= 5.0
    assert predicted[items % 2 == 0].max() < 2.0
    assert predicted[items % 2 == 1].min() > 4.0
    with pytest.raises(ModelError, match=r"P5: was not trained on the task 'explanation'; add"):
        model.explain(CYCLE.test.queries.take(np.arange(1)), Lists.empty(1, 1))


def test_tasks_that_the_data_lack_are_left_out() -> None:
    examples = Examples(CYCLE.train, None, ("sequential", "rating", "explanation", "summary", "direct"), 5)
    assert examples.tasks == ("sequential", "direct")  # all values are 5
    model = P5(P5Config.model_validate(SMALL | {"epochs": 1})).fit(CYCLE.train, valid=None, rng=RNG(0))
    with pytest.raises(ModelError, match="was not trained on the task 'rating'"):
        model.predict(CYCLE.test.queries, CYCLE.test.truth.values)


def test_an_epoch_draws_so_many_events_of_each_user() -> None:
    examples = Examples(CYCLE.train, None, ("sequential", "direct"), 3)
    lengths = CYCLE.train.histories.items.lengths
    rows = examples.draw("direct", 2, RNG(0))
    assert np.array_equal(np.bincount(examples.users("direct", rows), minlength=len(lengths)), np.minimum(lengths, 2))
    rows = examples.draw("sequential", 0, RNG(0))
    assert len(rows) == (lengths - 1).sum()
    history, flat = examples.parts("sequential", rows)["history"], CYCLE.train.histories.items
    for at, row in zip(history[:20], rows[:20], strict=True):
        start = flat.offsets[flat.rows[row]]
        assert [i for i in at.tolist() if i >= 0] == flat.values[max(start, row - 3) : row].tolist()


# -- who is known ---------------------------------------------------------------------------
def test_a_user_without_training_events_is_nobody(tmp_path: Path) -> None:
    train = CYCLE.train
    left = train.with_events(train.events.filter(pl.col("user") != 5))
    model = P5(P5Config.model_validate(SMALL | {"epochs": 1, "tasks": ("sequential", "direct")}))
    model.fit(left, valid=None, rng=RNG(0))
    model.save(tmp_path)
    held = CYCLE.test.queries.history.take(np.zeros(3, np.int64))
    for one in (model, P5.load(tmp_path)):
        scores = one.score(Queries.of(held, users=np.array([5, -1, 7])))
        assert np.array_equal(scores[0], scores[1])
        assert not np.array_equal(scores[0], scores[2])
        without = one.score(Queries.of(Ragged.of([[], [], []]), users=np.array([5, -1, 7])))
        assert np.array_equal(without[0], without[1])
        assert np.array_equal(np.argsort(-without[0], kind="stable"), np.argsort(-one.popularity_, kind="stable"))
        assert not np.array_equal(without[0], without[2])


# -- texts ----------------------------------------------------------------------------------
def texts(folder: Path) -> Path:
    """Write an explanation, by genre, and a review with its summary for each event, and for one that nobody had."""
    train = worlds.topics().split.train
    genre, users, items = train.item_table["genres"], train.users.ids, train.items.ids
    seen = set(zip(train.events["user"].to_list(), train.events["item"].to_list(), strict=True))
    absent = next((u, i) for u in range(train.n_users) for i in range(train.n_items) if (u, i) not in seen)
    lines = [
        {"user": users[u], "item": items[i], "explanation": f"you like {genre[i]}", "review": f"nice {genre[i]} indeed",
         "summary": f"nice {genre[i]}"}
        for u, i in [*sorted(seen), absent]
    ]  # fmt: skip
    lines.append({"user": "nobody", "item": items[0], "explanation": "x", "review": None, "summary": None})
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "texts.jsonl"


def test_texts_of_events_outside_of_training_are_not_read(tmp_path: Path) -> None:
    train = worlds.topics().split.train
    table = read_texts(texts(tmp_path), train)
    assert len(table) == train.events.select("user", "item").n_unique()
    (tmp_path / "bad.jsonl").write_text('{"user": "a"}\n')
    with pytest.raises(DataError, match="has no 'item'"):
        read_texts(tmp_path / "bad.jsonl", train)
    with pytest.raises(DataError, match=r"missing.jsonl: cannot be read"):
        read_texts(tmp_path / "missing.jsonl", train)


def test_texts_of_returning_users_need_times(tmp_path: Path) -> None:
    train = worlds.topics().split.train
    first = train.events.row(0, named=True)
    again = train.events.head(1).with_columns(time=pl.col("time").max() + 50)
    returning = train.with_events(pl.concat([train.events, again]).sort("user", "time", maintain_order=True))
    with pytest.raises(DataError, match=r"texts.jsonl: has no 'time', and users of this log return to items"):
        read_texts(texts(tmp_path), returning)
    ids = {"user": train.users.ids[first["user"]], "item": train.items.ids[first["item"]]}
    lines = [
        ids | {"time": first["time"] + later, "review": word} for later, word in ((0, "then"), (50, "again"), (99, "held out"))
    ]
    (tmp_path / "timed.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_texts(tmp_path / "timed.jsonl", returning)["review"].to_list() == ["then", "again"]


def test_explanations_are_written(tmp_path: Path) -> None:
    world = worlds.topics()
    train, cases = world.split.train, world.split.test.take(np.arange(6))
    config = SMALL | {
        "tasks": ("explanation",), "texts": str(texts(tmp_path)), "ids": {"scheme": "attributes"},
        "side_targets": 0, "epochs": 20,
    }  # fmt: skip
    model = P5(P5Config.model_validate(config)).fit(train, valid=None, rng=RNG(0))
    lists = Lists(np.array([[0, 5], [1, -1], [2, 3], [-1, -1], [7, 8], [9, 10]], np.int32), np.zeros((6, 2), np.float32))
    told = model.explain(cases.queries, lists)
    assert [len(row) for row in told] == [2, 1, 2, 0, 2, 2]
    genres = train.item_table["genres"]
    right = [one.sentence == f"you like {genres[one.item]}" for row in told for one in row]
    assert np.mean(right) > 0.7
    model.save(tmp_path / "p5")
    assert P5.load(tmp_path / "p5").explain(cases.queries, lists) == told


def test_summaries_read_the_review(tmp_path: Path) -> None:
    train = worlds.topics().split.train
    config = SMALL | {"tasks": ("summary",), "texts": str(texts(tmp_path)), "side_targets": 1, "epochs": 1}
    config["ids"] = {"scheme": "attributes"}
    model = P5(P5Config.model_validate(config)).fit(train, valid=None, rng=RNG(0))
    item = np.array([3])
    prompts = model._ask("summary", np.array([4]), item=item, review=["nice music indeed"])
    text = model.alphabet_.text
    tokens = prompts.tokens[0][prompts.real[0]]
    assert text.decode(tokens[tokens < text.size].tolist()) == "summarise what user 4 says of : nice music indeed"
    assert (tokens >= text.size).sum() == model.alphabet_.ids.depth


# -- pre-trained models ---------------------------------------------------------------------
def test_a_checkpoint_is_taken_with_its_own_words(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    signs = [
        "<pad>",
        "</s>",
        "<unk>",
        *(f"▁{w}" for w in ("user", "has", "taken", "and", "takes", "next", "Station")),
        "▁",
        *"0123456789",
    ]
    words: Any = Tokenizer(models.WordLevel({w: i for i, w in enumerate(signs)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)  # fmt: skip
    config = T5Config(
        vocab_size=30,
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
    )
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    model = P5(P5Config.model_validate(SMALL | {"checkpoint": str(tmp_path), "epochs": 1}))
    model.fit(CYCLE.train, valid=None, rng=RNG(0))
    assert model.alphabet_.size == len(signs) + 12
    assert model.network_.t5.config.feed_forward_proj == "gated-gelu"
    cases = CYCLE.test.take(np.arange(4))
    model.save(tmp_path / "p5")
    loaded = P5.load(tmp_path / "p5")
    assert np.allclose(loaded.score(cases.queries), model.score(cases.queries), atol=1e-5)
    with pytest.raises(ModelError, match="cannot read a T5"):
        P5(P5Config.model_validate(SMALL | {"checkpoint": str(tmp_path / "nothing")})).fit(CYCLE.train, valid=None, rng=RNG(0))
