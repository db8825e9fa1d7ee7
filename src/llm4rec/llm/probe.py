"""What can a backend really do?  Asked at start-up, and written beside the results."""

from __future__ import annotations

from typing import Any

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm.values import ChatModel, ChatRequest, FailureKind, Message, ScoreReply, ScoreRequest

_COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


#: Failures that tell nothing about what a backend can do.
_SILENT: frozenset[FailureKind] = frozenset({"unreachable", "rate_limited", "server_error", "garbage", "not_asked"})


def probe(model: ChatModel) -> dict[str, Any]:
    """Return what a model is found to honour, as JSON values; None stands for what cannot be told.

    ``schema``: ``honoured`` at once, ``repaired`` after the second question, else the kind of
    failure, to a prompt that does not mention JSON.  ``labels`` and ``likelihood``: does ``score``
    give log-probabilities of labels after messages, of text after text?  ``seed``: does one seed
    give the same sample twice, another seed another one?  ``usage``: are tokens reported?

    Six small calls, and one more if the first answer is repaired.  They go through the model as
    it is given, so behind a store they cost nothing the second time.  A probe stops no run: where
    the model cannot be asked, or a replayed store holds no probe, that is said as ``error``.
    """
    try:
        return _found(model)
    except ModelError as error:
        return {"model": model.name, "error": str(error)}


def _found(model: ChatModel) -> dict[str, Any]:
    ask = (Message("user", "Which colour has the sky on a clear day?"),)
    coloured = model.chat([ChatRequest(ask, schema=_COLOUR, max_tokens=32)])[0]
    schema = coloured.failure or ("repaired" if coloured.repaired else "honoured")
    label = (Message("user", "Is ice colder than fire? Answer with one letter.\nA: yes\nB: no"),)
    labels, likelihood = model.score([ScoreRequest(label, ("A", "B")), ScoreRequest("Once upon a", (" time", " spoon"))])
    # One token more makes another call of the same sample, also behind a store.
    story = (Message("user", "Write the first sentence of a story that nobody has told."),)
    one, longer, other = model.chat(
        [
            ChatRequest(story, temperature=1.0, max_tokens=16, seed=1),
            ChatRequest(story, temperature=1.0, max_tokens=17, seed=1),
            ChatRequest(story, temperature=1.0, max_tokens=16, seed=2),
        ]
    )
    seed: bool | None = None
    if one.text.strip() and longer.text.strip() and other.text.strip():
        # A sample that is the same under every seed says nothing about the seed.
        repeats = longer.text.startswith(one.text.rstrip()) or one.text.startswith(longer.text.rstrip())
        seed = None if repeats and one.text == other.text else repeats
    return {
        "model": model.name,
        "schema": schema,
        "labels": _scored(labels),
        "likelihood": _scored(likelihood),
        "seed": seed,
        "usage": None if one.failure in _SILENT else one.usage.tokens_in is not None and one.usage.tokens_out is not None,
    }


def _scored(reply: ScoreReply) -> bool | None:
    return None if reply.failure in _SILENT else bool(reply.failure is None and np.isfinite(reply.logprobs).all())
