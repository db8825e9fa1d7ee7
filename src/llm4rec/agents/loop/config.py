"""How an agent with a language model works, and how much it may take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm4rec.core import Config, FilePath

Strategy = Literal["plan", "react"]
Protocol = Literal["auto", "native", "json", "brief"]


class LoopConfig(Config):
    """Parameters of an :class:`llm4rec.agents.loop.agent.LLMAgent`.

    The bounds are checked before each question and each call; what is under way may end. Seconds are the
    model's own, those that an answer of the store once took included, so that a replayed turn ends where it did.
    """

    strategy: Strategy = "react"
    """``plan``: all calls first, then one after the other, revised after an error.  ``react``: one thought and call
    at a time, each in view of what the last one returned (Yao et al., *ReAct*, ICLR 2023, arXiv 2210.03629)."""
    protocol: Protocol = "auto"
    """How the model says which tool to call: ``native`` function calls, ``json`` by a schema, or, for small models, ``brief``:
    JSON without thoughts in which tools take what they need and nothing else, from the user's words alone.  ``auto`` is
    native for a server and brief for a model in this process.  A server that refuses tools, or an answer that calls none,
    turns the rest of the turn to ``json``."""
    max_steps: int = Field(8, ge=1)
    """Questions to the model in a turn, those of the critic and for the summary included."""
    max_calls: int = Field(16, ge=1)
    """Tool calls in a turn, those that fail included; ends the turn as ``steps`` does."""
    max_tokens: int | None = Field(40_000, ge=1)
    """Tokens of a turn, of questions and answers; what is not reported counts with its upper bound."""
    max_usd: float | None = Field(None, gt=0)
    """US dollars of a turn; the model must have a price then."""
    max_seconds: float | None = Field(60.0, gt=0)
    """Seconds of the model in a turn."""
    answer_tokens: int = Field(512, ge=16)
    """Longest answer to one question, in tokens."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Of the questions; 0 is greedy."""
    seed: int = 0
    """Of sampling, where the temperature is above 0 and the backend honours one."""
    shown: int = Field(5, ge=1, le=100)
    """Items that an answer shows where the model does not choose them."""
    listed: int = Field(20, ge=1)
    """Entries of a tool's answer that the model is told; the others stay candidates."""
    window: int = Field(4, ge=0)
    """Exchanges that are kept word for word; those before become a summary."""
    summary_tokens: int = Field(160, ge=16)
    """Longest summary, in tokens."""
    facts: int = Field(20, ge=0)
    """What is kept of the user and told to the model, the latest first."""
    critic: bool = False
    """Have each answer read by a critic before it is given.  Only what the critic passes is given: an unreadable
    critique, or a bound that is reached before, leaves the answer to the rule agent."""
    revisions: int = Field(1, ge=0)
    """Further answers after one that the critic refuses."""
    demonstrations: FilePath | None = None
    """JSON lines of example turns (``request`` and ``calls``), of which those most like the request are shown; unset, the
    shipped ones in the brief protocol, and none in others."""
    examples: int = Field(4, ge=0)
    """How many of them."""
    withheld: tuple[str, ...] = ()
    """Tools that the model is not offered."""
