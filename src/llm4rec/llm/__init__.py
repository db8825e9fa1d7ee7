"""Language models behind one seam: in process, on a server, or scripted; stored and metered."""

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
    "ChatModel", "ChatReply", "ChatRequest", "FailureKind", "Message", "Mode", "Role",
    "ScoreReply", "ScoreRequest", "ScriptedModel", "Store", "Stored", "Usage",
]  # fmt: skip
