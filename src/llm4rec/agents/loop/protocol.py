"""How tools are offered to a model and how its calls are read: as native function calls, or as JSON by a schema.

What was done in a turn is kept in one form and spelt in either protocol when a question is asked, so that
a turn can change from one to the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm4rec.agents.toolbox import Tool
from llm4rec.agents.tools import ITEM_ID, VALUE
from llm4rec.agents.turn import Call
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatReply, Message, ToolCall

#: Longest text of a tool's answer that a model is told, in characters; calls of one plan.
_LONGEST, _MOST = 300, 12
#: Of a brief call: characters of a text; entries of a list, and calls of a plan.
_WORDS, _FEW = 120, 4


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
            thought = {"thought": step.thought} if step.thought else {}
            said = {**thought, **said[0]} if single and len(said) == 1 else {"calls": said}
            messages.append(Message("assistant", _sorted(said)))
            messages.append(Message("user", "\n".join(_returned(call, most) for call in step.calls)))
    return tuple(messages)


def _sorted(value: Any) -> str:
    """Return JSON with sorted keys, as the store returns it, so that a replayed turn asks what the first one asked."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _asked(call: Call) -> dict[str, Any]:
    return {"tool": call.tool, "arguments": dict(call.arguments)}


# -- offering ---------------------------------------------------------------------------------
def signature(tool: Tool[Any], *, brief: bool = False) -> str:
    """Return a tool in one line: its name, what it takes, or needs, and what it does."""
    schema = tool.schema
    needed = set(schema.get("required", ()))
    given = [
        f"{name}: {_kind(part)}" + ("" if name in needed else f" = {json.dumps(part.get('default'))}")
        for name, part in schema.get("properties", {}).items()
        if name in needed or not brief
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


def brief_schema(
    tools: Sequence[Tool[Any]], ids: Sequence[str], values: Mapping[str, Sequence[str]], done: Sequence[Call], *, single: bool
) -> dict[str, Any]:
    """Return the JSON schema of calls that give tools what they need and nothing else, for a model that is held to it.

    Texts and lists are short. A tool that needs what is not there is left out, and so is one without arguments that was called.

    Args:
        tools: that may be called.
        ids: of the candidates, the only items that can be named.
        values: the values of each attribute that can be named.
        done: calls that were made.
        single: one call, or a plan of some.
    """
    calls = []
    for tool in tools:
        schema = tool.schema
        needed = {name: schema["properties"][name] for name in schema.get("required", ())}
        if not needed and any(call.tool == tool.name for call in done):
            continue
        for choice in _choices(needed, values):
            arguments = {name: _short(part, ids) for name, part in choice.items()}
            if all(part is not None for part in arguments.values()):
                calls.append(_object({"tool": {"const": tool.name}, "arguments": _object(arguments)}))
    call = {"anyOf": calls}
    return call if single else _object({"calls": {"type": "array", "items": call, "minItems": 1, "maxItems": _FEW}})


def _choices(needed: Mapping[str, Any], values: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments as they are, or, with a value of an attribute among them, once for each attribute."""
    value = next((name for name, part in needed.items() if part.get("format") == VALUE), None)
    if value is None:
        yield needed
        return
    for attribute, known in values.items():
        yield {**needed, "attribute": {"enum": [attribute]}, value: {"enum": list(known)}}


def _short(part: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any] | None:
    """Return the schema of an argument without what only describes it, and within bounds; None if nothing can satisfy it."""
    if part.get("format") == ITEM_ID:
        return {"enum": list(ids)} if ids else None
    if "enum" in part:
        return {"enum": part["enum"]}
    if part.get("type") == "array":
        inner = _short(part["items"], ids)
        return inner and {"type": "array", "items": inner, "minItems": part.get("minItems", 0), "maxItems": _FEW}
    if part.get("type") == "string" and not part.keys() & {"const", "pattern"}:
        most = min(part.get("maxLength", _WORDS), _WORDS)
        return {"type": "string", "minLength": part.get("minLength", 0), "maxLength": most}
    return {key: part[key] for key in ("type", "const", "pattern", "minimum", "maximum") if key in part}


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
