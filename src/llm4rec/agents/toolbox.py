"""Tools: functions whose names, parameters and descriptions are read by agents, an HTTP API and MCP alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from llm4rec.core import DataError, did_you_mean

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class OneOf:
    """Marks a text parameter whose values are known when the toolbox is made: ``Annotated[str, OneOf("systems")]``."""

    choices: str


class Arguments(BaseModel):
    """Base of what a tool is called with: no unknown keys, nothing coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Tool(Generic[S]):
    """A function as a tool.

    Attributes:
        name: of the function.
        description: its docstring.
        arguments: what it takes besides the session.
        reads_only: does it leave memory and events as they are?
        function: takes a session and the arguments by name.
    """

    name: str
    description: str
    arguments: type[Arguments]
    reads_only: bool
    function: Callable[..., tuple[Any, S]]

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self.arguments.model_json_schema()

    def as_function(self) -> dict[str, Any]:
        """Return the tool as OpenAI's protocol describes a function."""
        described = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": described}

    def as_mcp(self) -> dict[str, Any]:
        """Return the tool as the Model Context Protocol describes one."""
        hints = {"readOnlyHint": self.reads_only}
        return {"name": self.name, "description": self.description, "inputSchema": self.schema, "annotations": hints}

    def call(self, session: S, given: Mapping[str, Any]) -> tuple[Any, S]:
        """Return (JSON values, the session afterwards); raises ``DataError`` for arguments that do not fit."""
        try:
            arguments = self.arguments.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise DataError(first["msg"], where=f"{self.name}.{key}" if key else self.name, todo=_mend(first, self)) from None
        return self.function(session, **{name: getattr(arguments, name) for name in self.arguments.model_fields})


class Toolbox(Generic[S]):
    """The one registry of tools, by name.

    Args:
        functions: each takes a session first, and returns (JSON values, the session afterwards).
        choices: values of parameters marked by :class:`OneOf`; a parameter without any choice must be optional
            and takes None alone.
        writes: names of the functions that change memory or events.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., tuple[Any, S]]],
        choices: Mapping[str, Iterable[str]],
        writes: Iterable[str] = (),
    ) -> None:
        changing = set(writes)
        made = [_tool(f, {k: tuple(v) for k, v in choices.items()}, f.__name__ not in changing) for f in functions]
        self._tools = {tool.name: tool for tool in made}

    def __iter__(self) -> Any:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __getitem__(self, name: str) -> Tool[S]:
        """Return a tool; raises ``DataError``."""
        if name not in self._tools:
            raise DataError(f"there is no tool {name!r}", todo=did_you_mean(name, self._tools))
        return self._tools[name]

    def without(self, *names: str) -> Toolbox[S]:
        """Return a toolbox without some tools, for agents that may do less."""
        box: Toolbox[S] = Toolbox((), {})
        box._tools = {k: v for k, v in self._tools.items() if k not in names}
        return box


def _tool(function: Callable[..., tuple[Any, S]], choices: Mapping[str, tuple[str, ...]], reads_only: bool) -> Tool[S]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        kind = _resolved(hints[parameter.name], choices)
        fields[parameter.name] = (kind, ... if parameter.default is inspect.Parameter.empty else parameter.default)
    model = create_model(function.__name__, __base__=Arguments, **fields)
    return Tool(function.__name__, inspect.cleandoc(function.__doc__ or ""), model, reads_only, function)


def _resolved(kind: Any, choices: Mapping[str, tuple[str, ...]]) -> Any:
    """Return a type in which each :class:`OneOf` has become the literal texts."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        inner, *marks = arguments
        named = next((m for m in marks if isinstance(m, OneOf)), None)
        rest = tuple(m for m in marks if not isinstance(m, OneOf))
        if named is not None:
            values = choices[named.choices]
            literal = cast(Any, Literal)[values] if values else None
            optional = type(None) in get_args(inner)
            inner = (literal | None if literal is not None else None) if optional else literal
        return cast(Any, Annotated)[(inner, *rest)] if rest else inner
    return kind


def _mend(error: Mapping[str, Any], tool: Tool[Any]) -> str | None:
    """Return what to do about a wrong argument, where there is more to say than what is wrong."""
    if error["type"] == "extra_forbidden":
        return did_you_mean(str(error["loc"][-1]), tool.arguments.model_fields)
    return None
