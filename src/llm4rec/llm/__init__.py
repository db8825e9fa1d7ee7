"""Language models behind one seam: in process, on a server, or scripted; stored and metered."""

from llm4rec.llm.config import LLMConfig, open_chat_model
from llm4rec.llm.meter import Metered, Tally
from llm4rec.llm.prices import Price
from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.store import Mode, Store, Stored
from llm4rec.llm.values import (
    ChatModel,
    ChatReply,
    ChatRequest,
    FailureKind,
    Message,
    Role,
    ScoreReply,
    ScoreRequest,
    Usage,
)

__all__ = [
    "ChatModel", "ChatReply", "ChatRequest", "FailureKind", "LLMConfig", "Message", "Metered", "Mode",
    "Price", "Role", "ScoreReply", "ScoreRequest", "ScriptedModel", "Store", "Stored", "Tally", "Usage",
    "open_chat_model",
]  # fmt: skip
