"""How tools are offered to a model and how its calls are read: as native function calls, or as JSON by a schema.

What was done in a turn is kept in one form and spelt in either protocol when a question is asked, so that
a turn can change from one to the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llm4rec.agents.toolbox import Tool
from llm4rec.agents.turn import Call
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatReply, Message, ToolCall

#: Longest text of a tool's answer that a model is told, in characters; calls of one plan.
_LONGEST, _MOST = 300, 12


@dataclass(frozen=True, slots=True)
class Step:
    """Calls that the model asked for at once, with what came back, or what it is told besides.

    Attributes:
        thought: what it wrote beside them.
        calls: with answers or errors; empty for a remark.
        remark: what the model is told by the loop.
    """

    thought: str = ""
    calls: tuple[Call, ...] = ()
    remark: str = ""


# -- data -----------------------------------------------------------------------------------
def as_data(value: Any, most: int) -> str:
    """Return JSON in which every text is one plain line that closes nothing, and no list is longer than ``most``."""
    return json.dumps(_tame(value, most), ensure_ascii=False)


def _tame(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return plain(value, _LONGEST)
    if isinstance(value, dict):
        return {plain(str(k), _LONGEST): _tame(v, most) for k, v in value.items()}
    if isinstance(value, list | tuple):
        cut = [_tame(v, most) for v in value[:most]]
        return [*cut, f"and {len(value) - most} more"] if len(value) > most else cut
    return value


def _returned(call: Call, most: int) -> str:
    if call.error is not None:
        return f"{call.tool} failed: <data>{plain(call.error, 2 * _LONGEST)}</data>"
    return f"{call.tool} returned: <data>{as_data(call.answer, most)}</data>"


# -- history as messages ----------------------------------------------------------------------
def spelt(steps: Iterable[Step], *, native: bool, single: bool, most: int) -> tuple[Message, ...]:
    """Return what was done as messages of a protocol; ``single`` calls were asked for one at a time."""
    messages: list[Message] = []
    for at, step in enumerate(steps):
        if step.remark:
            messages.append(Message("user", step.remark))
        elif native:
            ids = [f"call_{at}_{i}" for i in range(len(step.calls))]
            named = zip(step.calls, ids, strict=True)
            calls = tuple(ToolCall(c.tool, _sorted(dict(c.arguments)), i) for c, i in named)
            messages.append(Message("assistant", step.thought, calls))
            told = zip(step.calls, ids, strict=True)
            messages += [Message("tool", _returned(call, most), answers=id_) for call, id_ in told]
        else:
            said: Any = [_asked(call) for call in step.calls]
            said = {"thought": step.thought, **said[0]} if single and len(said) == 1 else {"calls": said}
            messages.append(Message("assistant", _sorted(said)))
            messages.append(Message("user", "\n".join(_returned(call, most) for call in step.calls)))
    return tuple(messages)


def _sorted(value: Any) -> str:
    """Return JSON with sorted keys, as the store returns it, so that a replayed turn asks what the first one asked."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _asked(call: Call) -> dict[str, Any]:
    return {"tool": call.tool, "arguments": dict(call.arguments)}


# -- offering ---------------------------------------------------------------------------------
def signature(tool: Tool[Any]) -> str:
    """Return a tool in one line: its name, what it takes, what it does."""
    schema = tool.schema
    needed = set(schema.get("required", ()))
    given = [
        f"{name}: {_kind(part)}" + ("" if name in needed else f" = {json.dumps(part.get('default'))}")
        for name, part in schema.get("properties", {}).items()
    ]
    return f"{tool.name}({', '.join(given)}): {tool.description}"


def _kind(part: dict[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_kind(p) for p in part["anyOf"]))
    if "enum" in part or "const" in part:
        return " or ".join(json.dumps(value) for value in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        return f"list of {_kind(part.get('items', {}))}"
    return str(part.get("type", "any"))


def call_schema(tools: Sequence[Tool[Any]], *, single: bool) -> dict[str, Any]:
    """Return the JSON schema of an answer that calls tools: one with a thought before it, or a list of them.

    The arguments are checked by the tool itself, whose complaint goes back to the model.
    """
    call: dict[str, Any] = {
        "tool": {"type": "string", "enum": [tool.name for tool in tools]},
        "arguments": {"type": "object"},
    }
    if single:
        return _object({"thought": {"type": "string"}, **call})
    return _object({"calls": {"type": "array", "items": _object(call), "minItems": 1, "maxItems": _MOST}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# -- reading ----------------------------------------------------------------------------------
def read_native(reply: ChatReply) -> tuple[str, tuple[Call, ...]]:
    """Return thought and calls of a reply; one whose arguments are no JSON object carries its error."""
    return reply.text, tuple(_call(c) for c in reply.calls[:_MOST])


def _call(call: ToolCall) -> Call:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        return Call(call.name, {}, error="its arguments are no JSON object")
    return Call(call.name, dict(sorted(arguments.items())))


def read_json(value: Any) -> tuple[str, tuple[Call, ...]]:
    """Return thought and calls of a value that satisfies :func:`call_schema`; arguments by name, as the store has them."""
    entries = value.get("calls", [value])
    return value.get("thought", ""), tuple(Call(e["tool"], dict(sorted(e["arguments"].items()))) for e in entries)
