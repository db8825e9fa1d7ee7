"""Answers held to a JSON schema while they are written: no token that could not become a value of it is ever considered.

llguidance knows the tokens that may follow. What the schema leaves no choice about (keys, brackets, the rest of a name
that has begun) is read in one pass with the token before it, not decoded, so that an answer takes a pass for each choice
and not for each token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.llm.pick import Pick
from llm4rec.llm.prefix import Layers, cache_of
from llm4rec.llm.values import ChatRequest

if TYPE_CHECKING:
    import torch

#: Spaces as language models write them, and nowhere else: a model left free puts them without end.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Guide:
    """What a tokenizer's tokens can do to a JSON value.

    Args:
        tokenizer: of transformers, a fast one.
        vocabulary: number of logits of the model.
        ends: tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int]) -> None:
        from llguidance.hf import from_tokenizer

        self._vocabulary, self._ends = vocabulary, frozenset(ends)
        self._tokens = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=sorted(self._ends))

    def of(self, schema: Mapping[str, Any]) -> Held:
        """Return an answer that has not begun; raises ``ValueError`` for a schema that cannot be held to."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokens, LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_SPACING))
        if matcher.is_error():
            raise ValueError(f"no answer can be held to this schema: {' '.join(matcher.get_error().split())[:300]}")
        return Held(matcher, self._vocabulary, self._ends)


class Held:
    """An answer on its way; made by :meth:`Guide.of`."""

    def __init__(self, matcher: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._matcher, self._vocabulary, self.ends = matcher, vocabulary, ends

    @property
    def complete(self) -> bool:
        """Is the value complete, with nothing that could be added?"""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Return the tokens that have to come next, and take them; none where there is a choice, or the answer is complete."""
        tokens = [token for token in self._matcher.compute_ff_tokens() if token not in self.ends]
        if tokens:
            self._matcher.consume_tokens(tokens)
        return tokens

    def allowed(self) -> NDArray[np.bool_]:
        """Return bool[vocabulary], the tokens that may come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, count=self._vocabulary, bitorder="little").astype(np.bool_)

    def take(self, token: int) -> None:
        """Go on by an allowed token."""
        self._matcher.consume_token(token)


def held_answer(
    model: Any, guide: Guide, known: int, last: torch.Tensor, layers: Layers, request: ChatRequest
) -> tuple[list[int], bool]:
    """Return the tokens of an answer that its request's schema holds, and whether it came to its end within the bound.

    Args:
        model: of transformers.
        guide: of the model's tokens.
        known: tokens of the prompt.
        last: logits [vocabulary] after the prompt.
        layers: keys and values of the prompt.
        request: with a schema.

    Raises:
        ValueError: for a schema that cannot be held to.
    """
    import torch

    held, pick, answer = guide.of(request.schema or {}), Pick(request), list[int]()
    cache, new = cache_of(layers), held.forced()
    while len(answer) + len(new) <= request.max_tokens:
        answer += new
        if held.complete:
            return answer, True
        if new:
            at = known + len(answer)
            out = model(
                input_ids=torch.tensor([new], device=model.device),
                position_ids=torch.arange(at - len(new), at, device=model.device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            last = out.logits[0, -1]
        token = pick(np.where(held.allowed(), last.float().cpu().numpy(), -np.inf))
        if token in held.ends:
            return answer, True
        held.take(token)
        new = [token, *held.forced()]
    return answer, False
