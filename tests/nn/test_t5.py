"""The small T5 is T5: with the same weights it gives what transformers' gives; steps give what whole sequences give."""

from __future__ import annotations

from typing import Any

import torch

from llm4rec.nn.t5 import T5, Past

SHAPE: dict[str, Any] = {"width": 12, "layers": 2, "heads": 2, "head_width": 5, "hidden": 20, "dropout": 0.1}


def _made() -> tuple[T5, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    real = torch.ones(3, 40, dtype=torch.bool)
    real[0, :7], real[1, :39] = False, False
    return T5(**SHAPE).eval(), torch.randn(3, 40, 12), real, torch.randn(3, 6, 12)


def test_is_the_t5_of_transformers() -> None:
    from transformers import T5Config, T5Model

    own, x, real, y = _made()
    config = T5Config(
        vocab_size=3, d_model=12, d_kv=5, d_ff=20, num_layers=2, num_decoder_layers=2, num_heads=2, decoder_start_token_id=0
    )
    other = T5Model(config).eval()
    for side, mine in ((other.encoder, own.encoder), (other.decoder, own.decoder)):
        for theirs, block in zip(side.block, mine, strict=True):
            parts = [(theirs.layer[0].SelfAttention, block.attention)]
            norms = [(theirs.layer[0].layer_norm, block.norm), (theirs.layer[-1].layer_norm, block.norm_feed)]
            if side.is_decoder:
                parts.append((theirs.layer[1].EncDecAttention, block.cross))
                norms.append((theirs.layer[1].layer_norm, block.norm_cross))
            for attention, my_attention in parts:
                for name, mine_name in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "out")):
                    getattr(attention, name).weight.data = getattr(my_attention, mine_name).weight.data
            for norm, my_norm in norms:
                norm.weight.data = my_norm.weight.data
            feed = theirs.layer[-1].DenseReluDense
            feed.wi.weight.data, feed.wo.weight.data = block.feed.up.weight.data, block.feed.down.weight.data
    for side, table in ((other.encoder, own.distance), (other.decoder, own.distance_back)):
        side.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data = table.weight.data
    with torch.inference_mode():
        wanted = other(inputs_embeds=x, attention_mask=real.long(), decoder_inputs_embeds=y).last_hidden_state
        got = own.decode(y, own.encode(x, real))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_one_step_after_the_other_gives_the_whole() -> None:
    """Two beams a query, of which the second always follows the first: both have written the same."""
    t5, x, real, y = _made()
    with torch.inference_mode():
        memory, past = t5.encode(x, real), Past()
        wanted = t5.decode(y, memory)
        for place in range(y.shape[1]):
            states, past = t5.step(y[:, place, None].expand(-1, min(place, 1) + 1, -1), memory, past)
            for beam in range(states.shape[1]):
                torch.testing.assert_close(states[:, beam], wanted[:, place], rtol=1e-4, atol=1e-5)
            past = past.follow(torch.zeros(3, 2, dtype=torch.int64))


def test_pads_are_not_seen() -> None:
    t5, x, real, y = _made()
    with torch.inference_mode():
        before = t5.decode(y, t5.encode(x, real))
        after = t5.decode(y, t5.encode(torch.where(real[:, :, None], x, 9.0), real))
    torch.testing.assert_close(before, after)
