"""What the API is asked and answers."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm4rec.agents.catalogue import Operator
from llm4rec.agents.turn import AgentName

_ID = r"^[^\x00-\x1f\x7f-\x9f]+$"  # no control characters
Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=_ID)]
Words = Annotated[str, Field(min_length=1, max_length=1_000)]
K = Annotated[int, Field(ge=1, le=1_000, description="Length of the list.")]
SystemName = Annotated[str | None, Field(max_length=100, description="System of the run; null for the server's default one.")]


class Asked(BaseModel):
    """Base of requests: no unknown keys, nothing coerced, text that is Unicode."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise ValueError("text must be Unicode, without lone surrogates") from None
        return value


class Condition(Asked):
    """Something that has to be so of an item."""

    attribute: str = Field(max_length=200)
    operator: Operator
    value: str = Field(min_length=1, max_length=200)


Where = Annotated[list[Condition], Field(max_length=20, description="All of it has to be so of every item.")]


class Who(Asked):
    """Who asks: a user, or a history of items in place of the user's own."""

    user: Identifier | None = None
    history: Annotated[list[Identifier] | None, Field(max_length=1_000, description="Item ids, oldest first.")] = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.user is None and self.history is None:
            raise ValueError("give a user, a history, or both")
        return self


class RecommendRequest(Who):
    """A list for a user, or for a history."""

    k: K = 10
    system: SystemName = None
    where: Where = []
    seen: bool = Field(False, description="May the list hold what the user has touched?")
    text: Words | None = Field(None, description="What is asked for in words, for systems that read it.")


class RankRequest(Who):
    """Given items in order."""

    items: list[Identifier] = Field(min_length=1, max_length=1_000)
    system: SystemName = None


class ExplainRequest(Who):
    """Why given items?"""

    items: list[Identifier] = Field(min_length=1, max_length=100)
    system: SystemName = None


class SearchRequest(Asked):
    """Items by words."""

    words: Words
    k: K = 10
    where: Where = []


class EventIn(Asked):
    """Something that a user did."""

    user: Identifier
    item: Identifier
    time: int | None = Field(None, ge=-(2**61), le=2**61, description="UTC s; by default now.")
    value: float = Field(1.0, ge=-1e9, le=1e9, description="A rating, a count.")
    behavior: str | None = Field(None, max_length=100, description="Kind of event, one of the run's.")
    id: Identifier | None = Field(None, description="The sender's own; what is sent again under it counts once.")


class ItemIn(Asked):
    """A new item."""

    id: Identifier
    attributes: dict[str, Any] = Field(description="Values of the catalogue's own attributes; a title if it has titles.")


class EventsRequest(Asked):
    """Interactions and new items, taken all or none; items first, so that events may name them."""

    events: list[EventIn] = Field(default=[], max_length=1_000)
    items: list[ItemIn] = Field(default=[], max_length=1_000)


class FactIn(Asked):
    """Something to be kept of a user."""

    text: Annotated[str, Field(min_length=1, max_length=1_000)]
    attribute: str | None = Field(None, max_length=200, description="Attribute of items that the text is a value of.")
    stance: Literal["likes", "dislikes"] | None = None


class FactEdit(Asked):
    """The right text of a fact."""

    text: Annotated[str, Field(min_length=1, max_length=1_000)]


class ChatRequest(Asked):
    """Something said."""

    message: Annotated[str, Field(min_length=1, max_length=2_000)]
    user: Identifier | None = None
    session: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="The conversation to go on with.")
    agent: AgentName | None = Field(None, description="Who answers; null for the server's default.")


class FeedbackRequest(Asked):
    """What became of an item that was proposed in a conversation."""

    item: Identifier
    verdict: Literal["accept", "reject"]
    user: Identifier | None = None
    session: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="The conversation in which it was proposed.")


# -- answers --------------------------------------------------------------------------------
class Item(BaseModel):
    """An item of a list."""

    item: str
    name: str
    score: float


class Degraded(BaseModel):
    """What stands in for a system whose language model was slow or down."""

    system: str | None = Field(description="Whose list it is; null for the order that was given.")
    reason: Literal["slow", "busy", "failed"]


class ListAnswer(BaseModel):
    """A list, best first."""

    system: str
    label: str
    items: list[Item]
    history: int = Field(description="Events that the list was made from.")
    known: bool | None = Field(description="Has the user been seen before? Null where none was named.")
    degraded: Degraded | None = Field(None, description="Set where the list is not what the system should have given.")
    failures: list[str] = Field([], description="Kinds of what went wrong on the way.")
    dropped: dict[str, str] = Field({}, description="Items that were given and are not in the list, with the reason.")


class Why(BaseModel):
    """A reason."""

    item: str
    name: str
    why: str = Field(description="Empty where there is nothing true to say.")
    by: str = Field(description="The system that wrote it, or 'evidence'.")


class ExplainAnswer(BaseModel):
    """Reasons, in the order asked for."""

    items: list[Why]
    degraded: Degraded | None = None


class SearchAnswer(BaseModel):
    """Items that share words, best first."""

    items: list[Item]


class Details(BaseModel):
    """What is known of an item."""

    item: str
    name: str
    attributes: dict[str, Any]
    new: bool = Field(description="Did it come after the systems were fitted?")


class ItemsAnswer(BaseModel):
    """A page of the catalogue."""

    total: int
    items: list[Details]


class EventsAnswer(BaseModel):
    """What is on the disk now."""

    accepted: int
    repeated: int = Field(description="Events that were here already under their ids.")
    items: int


class Fact(BaseModel):
    """Something kept of a user."""

    id: str
    text: str
    source: str
    attribute: str | None = None
    detail: str | None = None
    time: int | None = None
    evidence: list[dict[str, Any]] = []


class FactsAnswer(BaseModel):
    """All that is kept of a user."""

    user: str
    facts: list[Fact]


class Forgotten(BaseModel):
    """How many facts are gone."""

    forgotten: int


class FeedbackAnswer(BaseModel):
    """What was done with it."""

    line: str = Field(description="In words, for people.")
    event: bool = Field(description="Does it count as an interaction of the user?")
    fact: str | None = Field(description="Id of the fact that the user's memory keeps of it.")


class ErrorDetail(BaseModel):
    """What is wrong."""

    code: str
    message: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Every answer from 400 on."""

    error: ErrorDetail
