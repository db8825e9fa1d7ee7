"""Language models behind one seam: in process, on a server, or scripted; stored and metered."""

from llm4rec.llm.answers import AnswerFailure, Ranking, read_ranking
from llm4rec.llm.backend import open_chat_model
from llm4rec.llm.budget import Budget, BudgetConfig, Budgeted
from llm4rec.llm.config import LLMConfig
from llm4rec.llm.dryrun import DryRun, Estimate
from llm4rec.llm.meter import Metered, Tally
from llm4rec.llm.prices import Price
from llm4rec.llm.probe import probe
from llm4rec.llm.prompts import Prompt, delimit, plain
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
    Streaming,
    ToolCall,
    Usage,
    Watch,
)

__all__ = [
    "AnswerFailure", "Budget", "BudgetConfig", "Budgeted", "ChatModel", "ChatReply", "ChatRequest", "DryRun",
    "Estimate", "FailureKind", "LLMConfig", "Message", "Metered", "Mode", "Price", "Prompt", "Ranking", "Role",
    "ScoreReply", "ScoreRequest", "ScriptedModel", "Store", "Stored", "Streaming", "Tally", "ToolCall", "Usage", "Watch",
    "delimit", "open_chat_model", "plain", "probe", "read_ranking",
]  # fmt: skip
