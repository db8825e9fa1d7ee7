"""The same trie with models of transformers: step by step, and within ``generate``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, ModelError, Ragged
from llm4rec.generative.causal import CausalSteps
from llm4rec.generative.decode import beam_search, score_all
from llm4rec.generative.processor import TrieLogitsProcessor
from llm4rec.generative.step import StepModel
from llm4rec.generative.t5 import T5Steps
from llm4rec.generative.trie import Trie

SIZE, N, EOS = 24, 3, 1
RNG = np.random.default_rng(0)
#: IDs of one length, and of several, in tokens 4 to 23 of the model.
EVEN = Ragged.of(np.unique(RNG.integers(4, SIZE, (60, 3)), axis=0))
UNEVEN = Ragged.of([[4], [5, 4], [5, 5, 6], *[[7 + a, 4 + b, c] for a in range(6) for b in range(5) for c in (4, 9)]])


@pytest.fixture(scope="module")
def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=SIZE, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, initializer_factor=3.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=EOS, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.4, pad_token_id=0, eos_token_id=EOS, bos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> tuple[Tensor, Tensor]:
    """Three prompts of 7, 4 and 6 tokens, padded on the left."""
    ids = torch.tensor(np.random.default_rng(1).integers(4, SIZE, (N, 7)))
    mask = torch.ones_like(ids)
    mask[1, :3] = mask[2, :1] = 0
    return torch.where(mask > 0, ids, 0), mask


def steps(model: Any, prompts: tuple[Tensor, Tensor]) -> StepModel:
    return T5Steps(model, *prompts) if model.config.is_encoder_decoder else CausalSteps(model, *prompts)


@torch.no_grad()
def forced(model: Any, prompts: tuple[Tensor, Tensor], codes: Ragged) -> NDArray[np.float32]:
    """Return float[n, n_items], the log-probability of each ID by one pass of the whole model each."""
    ids, mask = (torch.repeat_interleave(t, len(codes), 0) for t in prompts)  # [n * n_items, 7]
    own = torch.from_numpy(codes.padded(int(codes.lengths.max()), align="left")).long().repeat(N, 1)
    real, own = own >= 0, own.clamp(min=0)  # what stands behind an ID changes nothing before it
    if model.config.is_encoder_decoder:
        begun = torch.cat([torch.full_like(own[:, :1], model.config.decoder_start_token_id), own[:, :-1]], 1)
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=begun).logits
    else:
        whole = torch.cat([mask, torch.ones_like(own)], 1)
        places = (whole.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=torch.cat([ids, own], 1), attention_mask=whole, position_ids=places).logits
        logits = logits[:, ids.shape[1] - 1 : -1]
    each = torch.log_softmax(logits, 2).gather(2, own[:, :, None])[:, :, 0]
    return torch.where(real, each, 0.0).sum(1).view(N, -1).numpy()


def generated(model: Any, prompts: tuple[Tensor, Tensor], trie: Trie, k: int, **how: Any) -> Lists:
    """Return the lists of ``generate`` with the trie's processor."""
    exclude, allowed = how.pop("exclude", None), how.pop("allowed", None)
    ids, mask = prompts
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    processor = TrieLogitsProcessor(trie, N, start, eos=EOS, exclude=exclude, allowed=allowed)
    given = {"do_sample": False, "num_beams": k, "num_return_sequences": k, "length_penalty": 0.0, **how}
    out = model.generate(
        input_ids=ids, attention_mask=mask, logits_processor=[processor], max_new_tokens=trie.depth + 1,
        return_dict_in_generate=True, output_scores=True, **given,
    )  # fmt: skip
    return processor.lists(out.sequences, out.get("sequences_scores"), k)


MODELS = pytest.mark.parametrize("name", ["t5", "llama"])
CODES = pytest.mark.parametrize("codes", [EVEN, UNEVEN], ids=["even", "uneven"])


@MODELS
@CODES
def test_steps_give_what_the_whole_model_gives(
    name: str, codes: Ragged, prompts: tuple[Tensor, Tensor], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    expected, trie = forced(model, prompts, codes), Trie.build(codes, SIZE)
    assert np.abs(score_all(steps(model, prompts), trie, width=30) - expected).max() < 1e-3
    found = beam_search(steps(model, prompts), trie, 10, beams=len(codes))
    assert np.array_equal(found.items, Lists.from_scores(expected, 10).items)


@MODELS
@CODES
@pytest.mark.parametrize("masked", [False, True])
def test_generate_finds_what_our_search_finds(
    name: str, codes: Ragged, masked: bool, prompts: tuple[Tensor, Tensor], request: pytest.FixtureRequest
) -> None:
    model, trie = request.getfixturevalue(name), Trie.build(codes, SIZE)
    how: dict[str, Any] = {}
    if masked:
        rng = np.random.default_rng(2)
        how = {"exclude": Ragged.of([rng.permutation(len(codes))[:20], [], [0]]), "allowed": rng.random(len(codes)) < 0.7}
    theirs = generated(model, prompts, trie, 8, **how)
    ours = beam_search(steps(model, prompts), trie, 8, beams=8, **how)
    theirs.check(trie.n_items, exclude=how.get("exclude"))
    # A whole ID takes no place among our beams, and takes one among those of generate: ours are at least as likely.
    assert (ours.scores >= theirs.scores - 1e-3).all()
    if codes is EVEN:
        assert np.array_equal(ours.items, theirs.items)
        assert np.allclose(ours.scores, theirs.scores, atol=1e-3)


@MODELS
def test_the_processor_allows_what_prefix_allowed_tokens_fn_allows(
    name: str, prompts: tuple[Tensor, Tensor], request: pytest.FixtureRequest
) -> None:
    model, trie = request.getfixturevalue(name), Trie.build(EVEN, SIZE)
    ids, mask = prompts
    start = 1 if model.config.is_encoder_decoder else ids.shape[1]
    after: dict[tuple[int, ...], list[int]] = {}
    for row in EVEN.tolist():
        for at, token in enumerate(row):
            after.setdefault(tuple(row[:at]), []).append(token)
    how = {"input_ids": ids, "attention_mask": mask, "num_beams": 6, "num_return_sequences": 6, "do_sample": False,
           "max_new_tokens": 3, "eos_token_id": None}  # fmt: skip
    theirs = model.generate(**how, prefix_allowed_tokens_fn=lambda _, row: after[tuple(row[start:].tolist())])
    processor = TrieLogitsProcessor(trie, N, start)
    ours = model.generate(**how, logits_processor=[processor])
    assert torch.equal(ours, theirs)
    assert (trie.find(ours[:, start:].numpy()) >= 0).all()


@MODELS
@pytest.mark.parametrize("how", [{"num_beams": 1, "num_return_sequences": 1}, {"do_sample": True, "num_beams": 1}])
def test_greedy_and_sampled_tokens_are_those_of_items(
    name: str, how: dict[str, Any], prompts: tuple[Tensor, Tensor], request: pytest.FixtureRequest
) -> None:
    model, trie = request.getfixturevalue(name), Trie.build(UNEVEN, SIZE)
    torch.manual_seed(3)
    exclude = Ragged.of([[0], list(range(60)), []])
    found = generated(model, prompts, trie, 5, exclude=exclude, **how)
    found.check(trie.n_items, exclude=exclude)
    assert (found.lengths >= 1).all()


@MODELS
def test_a_catalogue_smaller_than_the_beams(name: str, prompts: tuple[Tensor, Tensor], request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    trie = Trie.build(Ragged.of([[4, 5], [4, 6], [7, 8], [9]]), SIZE)
    found = generated(model, prompts, trie, 8, exclude=Ragged.of([[0], [0, 1, 2, 3], []]))
    found.check(trie.n_items)
    assert [sorted(row[row >= 0].tolist()) for row in found.items] == [[1, 2, 3], [], [0, 1, 2, 3]]


def test_the_processor_carries_nodes_through_changes_of_place_and_walks_where_it_must() -> None:
    trie = Trie.build(EVEN, SIZE)
    codes = trie.codes()
    scores = torch.zeros((4, SIZE))

    def allowed(processor: TrieLogitsProcessor, rows: NDArray[np.int32]) -> list[list[int]]:
        ids = torch.cat([torch.zeros((4, 1), dtype=torch.int64), torch.from_numpy(rows).long()], 1)
        return [row.isfinite().nonzero()[:, 0].tolist() for row in processor(ids, scores)]

    def after(rows: NDArray[np.int32]) -> list[list[int]]:
        return [sorted({int(c[rows.shape[1]]) for c in codes if np.array_equal(c[: rows.shape[1]], row)}) for row in rows]

    processor = TrieLogitsProcessor(trie, 2, 1)
    first = codes[[0, 20, 3, 40], :1]
    second = np.array([codes[20, :2], codes[0, :2], codes[40, :2], codes[40, :2]])  # other places; one beam has split
    assert allowed(processor, first[:, :0]) == after(first[:, :0])
    assert allowed(processor, first) == after(first)
    assert allowed(processor, second) == after(second)
    assert allowed(processor, first) == after(first), "asked for an earlier step"
    assert allowed(TrieLogitsProcessor(trie, 2, 1), second) == after(second), "asked in the middle"
    lost = np.array([[0, 0]] * 4, dtype=np.int32)
    assert allowed(processor, lost) == [[0]] * 4, "no row is closed altogether"


def test_what_the_processor_refuses() -> None:
    trie = Trie.build(UNEVEN, SIZE)
    with pytest.raises(ValueError, match="eos="):
        TrieLogitsProcessor(trie, N, 1)
    processor = TrieLogitsProcessor(trie, N, 2, eos=EOS)
    with pytest.raises(ValueError, match="3 requests"):
        processor(torch.zeros((4, 2), dtype=torch.int64), torch.zeros((4, SIZE)))
    with pytest.raises(ValueError, match="24 tokens"):
        processor(torch.zeros((3, 2), dtype=torch.int64), torch.zeros((3, 9)))
    with pytest.raises(ValueError, match="before the ID"):
        processor(torch.zeros((3, 1), dtype=torch.int64), torch.zeros((3, SIZE)))


def test_steps_refuse_models_that_they_would_get_wrong(t5: Any, llama: Any, prompts: tuple[Tensor, Tensor]) -> None:
    for steps_of, model in ((T5Steps, t5), (CausalSteps, llama)):
        model.train()
        with pytest.raises(ModelError, match="training mode"):
            steps_of(model, *prompts)
        model.eval()
    forward = type(llama).forward
    with pytest.MonkeyPatch.context() as patch:

        def scaled(self: Any, *args: Any, **more: Any) -> Any:
            out = forward(self, *args, **more)
            out.logits = out.logits * 2
            return out

        patch.setattr(type(llama), "forward", scaled)
        with torch.no_grad(), pytest.raises(ModelError, match="changes the logits"):
            CausalSteps(llama, *prompts).begin()
