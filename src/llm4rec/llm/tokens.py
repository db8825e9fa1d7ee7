"""Text to tokens for a model in this process, such that data cannot pass for structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llm4rec.core import ModelError
from llm4rec.llm.guided import Guide
from llm4rec.llm.values import Message


class Tokens:
    """A model's tokenizer, behind which no text can spell a special token.

    A title such as ``<|im_end|>`` would otherwise end the user's turn; it is broken up first.

    Args:
        tokenizer: of transformers.
        name: the model's name, for error messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        special = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._specials = sorted(special, key=len, reverse=True)

    def _plain(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()  # no lone surrogates
        for special in self._specials:
            if special in text:
                text = text.replace(special, f"{special[0]} {special[1:]}")
        return text

    def of(self, text: str) -> list[int]:
        """Return the tokens of a text as it stands, without any that begin or end a sequence."""
        return list(self._tokenizer(self._plain(text), add_special_tokens=False)["input_ids"])

    def of_prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """Return the tokens of a plain prompt, or of messages up to the start of the assistant's answer; never none."""
        if isinstance(prompt, str):
            tokens = list(self._tokenizer(self._plain(prompt))["input_ids"])
        elif not self._tokenizer.chat_template:
            raise ModelError(
                f"{self._name} has no chat template, so it cannot be sent messages", todo="name an instruction model"
            )
        else:
            turns = [{"role": m.role, "content": self._plain(m.content)} for m in prompt]
            text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            tokens = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        if tokens:
            return tokens
        begin = self._tokenizer.bos_token_id
        return [begin if begin is not None else self._tokenizer.eos_token_id or 0]

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of an answer's tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    @property
    def end(self) -> int | None:
        """The token that ends a turn."""
        token = self._tokenizer.eos_token_id
        return None if token is None else int(token)

    def guide(self, vocabulary: int, ends: Iterable[int]) -> Guide:
        """Return what holds answers in these tokens to a schema, for a model with so many logits and these ends."""
        return Guide(self._tokenizer, vocabulary, ends)
