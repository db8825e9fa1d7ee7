"""A simulated user whose words a language model writes.

What is done in a turn, and which facets are named or refused, the rules decide (:mod:`.rule`): a turn is one of the typed
actions whatever the model writes. The model is told who the user is, what was said, and what to say now; never what the
item is called. What it writes is scanned before it is sent (see :mod:`.talk`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from llm4rec.agents.simulate.rule import RuleSimulator, RuleSimulatorConfig
from llm4rec.agents.simulate.values import Action, Scene, Utterance
from llm4rec.llm.prompts import plain
from llm4rec.llm.structured import without_thoughts
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest
from llm4rec.prompted.explain.mentions import folded, forms
from llm4rec.prompted.wording import Template, load_prompt

_TEMPLATE = Path(__file__).with_name("speak.j2")
_LABEL = re.compile(r"^\s*(?:user|you|me|person|customer)\s*:\s*", re.I)
_QUOTED = re.compile(r"^[\"“'](.*)[\"”']$", re.S)
_LONGEST = 400  # characters of an utterance


class LLMSimulatorConfig(RuleSimulatorConfig):
    """Parameters of the LLM simulator."""

    thing: str = "a film"
    """What is asked for, in words."""
    lines: int = Field(6, ge=0)
    """Last lines of the talk that the model is shown."""
    max_tokens: int = Field(60, ge=8)
    """Longest utterance."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Of the model; its draws follow the scene's seed."""


class LLMSimulator:
    """Speaks through a chat model; where that fails, in the rules' words, which is counted.

    Failures: those of the model's call; ``"role"`` for words that answer as the recommender would (a list);
    ``"omitted"`` for words that leave out a facet that they were to name (they are sent all the same).

    Args:
        model: writes the words.
        config: parameters.
    """

    def __init__(self, model: ChatModel, config: LLMSimulatorConfig | None = None) -> None:
        self.config = config or LLMSimulatorConfig.model_validate({})
        self._model, self._rule = model, RuleSimulator(self.config)
        variables = {"thing": "text", "persona": "lines", "lines": "pairs", "task": "text"}
        self._template = Template(load_prompt("speak", _TEMPLATE), variables, needs=("task",))  # type: ignore[arg-type]
        self.name = f"LLM ({model.name})"

    def speak(self, scenes: Sequence[Scene]) -> list[Utterance]:
        """Return what each user says next; one batch of calls."""
        actions = [self._rule.act(scene) for scene in scenes]
        asked = [at for at, action in enumerate(actions) if action.act != "leave"]
        replies = self._model.chat([self._request(scenes[at], actions[at]) for at in asked])
        said = {at: _worded(actions[at], reply) for at, reply in zip(asked, replies, strict=True)}
        return [said.get(at) or Utterance(action) for at, action in enumerate(actions)]

    def _request(self, scene: Scene, action: Action) -> ChatRequest:
        kept = scene.lines[-self.config.lines :] if self.config.lines else ()
        speakers = {"user": "You", "agent": "Recommender"}
        messages = self._template.messages(
            thing=self.config.thing, persona=list(scene.persona), task=task(action),
            lines=[(speakers[line.speaker], line.text) for line in kept],
        )  # fmt: skip
        seed = sum(part << (11 * at) for at, part in enumerate(scene.seed)) % 2**31
        return ChatRequest(messages, temperature=self.config.temperature, max_tokens=self.config.max_tokens, seed=seed)


def task(action: Action) -> str:
    """Return in words what an action has to say."""
    wanted = ", ".join(f.words for f in action.conveys)
    refused = ", ".join(f.words for f in action.refuses)
    parts = {
        "inform": "ask for a recommendation",
        "answer": "answer the recommender's question",
        "reject": "turn down what was proposed",
        "accept": "take one of the proposals and ask for more like it",
        "leave": "say goodbye",
    }
    told = [parts[action.act], f"you want: {wanted}" if wanted else "", f"you do not want: {refused}" if refused else ""]
    if action.noise == "vague":
        told = ["say that you do not know"]
    return "; ".join(filter(None, told)) + "."


def _worded(action: Action, reply: ChatReply) -> Utterance:
    """Return the utterance of a reply, or the rules' where it cannot be used."""
    usage = reply.usage
    text = plain(_LABEL.sub("", without_thoughts(reply.text).strip().split("\n\n")[0]), _LONGEST)
    if match := _QUOTED.match(text):
        text = match[1].strip()
    if reply.failure not in (None, "truncated") or not text:
        return Utterance(action, None, (reply.failure or "empty",), usage, 1)
    if re.search(r"(?:^|\s)1\.\s.*\s2\.\s", text):
        return Utterance(action, None, ("role",), usage, 1)
    heard = folded(text)
    missing = [f for f in (*action.conveys, *action.refuses) if not _says(heard, f.value if not f.decade else f"{f.value}s")]
    return Utterance(replace(action, text=text), action.text, ("omitted",) if missing else (), usage, 1)


def _says(heard: tuple[str, ...], value: str) -> bool:
    """Do words hold a value, or its plural?"""
    return any(heard[i : i + len(form)] == form for form in forms(folded(value)) for i in range(len(heard) - len(form) + 1))
