"""The parameters of a language model as a ranker."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llm4rec.core import Config, FilePath
from llm4rec.prompted.rank.pairs import Answers, Sorting
from llm4rec.prompted.rank.prompts import Strategy

Scoring = Literal["likelihood", "choice", "generate", "yes-no", "pairs"]
#: Scoring -> weight of its prior unless one is given; those that are not named have no prior.
_PRIOR = {"likelihood": 0.3, "choice": 0.0, "yes-no": 0.0}


class LLMRankerConfig(Config):
    """Parameters of :class:`LLMRanker`."""

    llm: str = "embedded"
    """Name of the language model among the run's resources."""
    scoring: Scoring = "likelihood"
    """How candidates are judged: by the likelihood of their names after the history (small models);
    by the log-probability of their labels in a list ("choice"); by the order that the model writes
    ("generate", for servers); each by itself by the log-odds of Yes ("yes-no"); two at a time ("pairs")."""
    strategy: Strategy = "sequential"
    """How the user is described: the history in order; the same, its end named again ("recent"); or its
    end as a worked example of the question ("in-context")."""

    item: str | None = None
    """Template of an item's name in the prompt, over the columns of the item table; by default the
    title, with the year where there is one (a small model ranks far better with it)."""
    articles: bool = True
    """Move a trailing article to the front: "Godfather, The" becomes "The Godfather"."""
    max_chars: int = Field(100, ge=8, le=200)
    """Longest name of an item in a prompt, in characters."""
    details: str | None = None
    """Template of what stands in quotes behind an item's name, over the columns of the item table, those that
    augmenters write included; nothing by default."""
    details_chars: int = Field(200, ge=8, le=2000)
    """Longest details of one item, in characters."""
    details_of: Literal["both", "history", "candidates"] = "both"
    """Which items are shown with details.  By likelihood it is the history in any case: the details of a
    candidate would be judged in its place."""
    things: str = "movies"
    """What the items are, in the plural."""
    did: str = "watched"
    """What users have done with them."""
    history: int = Field(10, ge=0, le=200)
    """Number of the most recent history items in the prompt."""
    profile_chars: int = Field(600, ge=0, le=2000)
    """Longest profile of the user in a prompt, in characters, where queries carry one; 0 leaves it out."""
    template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one of the chosen scoring."""
    history_template: FilePath | None = None
    """Path of a jinja template that replaces the strategy's description of the history (not for likelihood,
    whose one template holds it)."""

    normalise: Literal["sum", "mean"] = "mean"
    """Likelihood of a name in total ("sum") or for each token ("mean")."""
    prior_weight: Annotated[float, Field(ge=0.0, le=2.0)] | Literal["auto"] | None = None
    """Weight of the score that a prompt without content gives, which is subtracted ("likelihood", "choice",
    "yes-no"); "auto" chooses it on validation cases.  By default 0.3 for likelihood, else 0."""
    tune_cases: int = Field(50, ge=1)
    """Largest number of validation cases used by "auto" outside of a pipeline, which uses its own."""
    tune_negatives: int = Field(19, ge=1)
    """Random unseen items beside the true one in each case used by "auto" outside of a pipeline."""

    permutations: int = Field(3, ge=1, le=100)
    """Orders in which a list is asked ("choice", "generate"); their scores are averaged."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest written answer in tokens; by default 8 for each candidate and 32 more ("generate"), or 24 ("pairs")."""
    compare: Sorting = "all"
    """Which pairs are asked ("pairs"): all, or those of a merge sort."""
    answers: Answers = "logprobs"
    """How a preference is read ("pairs"): from the log-probabilities of two labels, or from a written one."""

    window: Literal["all", "sliding", "tournament"] = "all"
    """How a list is split: not at all; into windows that move from its end to its front; or into groups whose best go on."""
    window_size: int = Field(20, ge=2)
    """Candidates in a window or group."""
    step: int = Field(10, ge=1)
    """Candidates by which a window moves; at most ``window_size``."""
    passes: int = Field(1, ge=1, le=100)
    """How often the windows move over the list."""
    advance: int = Field(10, ge=1)
    """Candidates of each group that go on; at most half of ``window_size``."""
    start: Literal["retrieved", "drawn"] = "retrieved"
    """The order from which windows, groups and sorting begin: that of the list that is ranked, or one
    drawn by hash.  Prompts never show it."""

    seed: int = Field(0, ge=0)
    """Seed of the orders in which candidates are listed."""
    exchanges: int = Field(8, ge=0)
    """Prompts and answers kept for each query, for the report."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.prior_weight not in (None, 0.0) and self.scoring not in _PRIOR:
            raise ValueError(f"prior_weight: scoring = {self.scoring!r} has no prior to subtract; leave it out")
        if self.scoring == "likelihood" and self.details_of == "candidates":
            raise ValueError("details_of: by likelihood only the history can have details; write 'history'")
        if self.scoring == "likelihood" and self.history_template is not None:
            raise ValueError("history_template: by likelihood the one template holds the history; use template")
        if self.window == "sliding" and self.step > self.window_size:
            raise ValueError(f"step: {self.step} leaves out candidates between windows of {self.window_size}")
        if self.window == "tournament" and 2 * self.advance > self.window_size:
            raise ValueError(f"advance: {self.advance} is more than half of a group of {self.window_size}")
        return self

    @property
    def default_prior(self) -> float:
        """The weight of the prior where none was given or could be chosen."""
        return _PRIOR.get(self.scoring, 0.0)
