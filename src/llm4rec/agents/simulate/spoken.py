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
from llm4rec.agents.simulate.values import Action, Facet, Scene, Utterance
from llm4rec.llm.prompts import plain
from llm4rec.llm.structured import without_thoughts
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest
from llm4rec.prompted.explain.mentions import Words, folded, forms
from llm4rec.prompted.wording import Kind, Template, load_prompt

_TEMPLATE = Path(__file__).with_name("speak.j2")
_LABEL = re.compile(r"^\s*(?:user|you|me|person|customer)\s*:\s*", re.I)
_LIST = re.compile(r"(?:^|\s)1\.\s.*\s2\.\s")
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
    temperature: float = Field(0.5, ge=0, le=2)
    """Of the model; its draws follow the scene's seed."""


class LLMSimulator:
    """Speaks through a chat model; where that fails, in the rules' words, which is counted.

    Failures: those of the model's call; ``"role"`` for words that answer as the recommender would (a list);
    ``"omitted"`` for words without a facet that they were to name, ``"added"`` for words with another one.  So
    what the record says was conveyed is in the words; whether they say it the right way round is not checked.

    Args:
        model: writes the words.
        config: parameters.
        known: facets of the catalogue, for the last of these checks.
    """

    def __init__(self, model: ChatModel, config: LLMSimulatorConfig | None = None, known: Sequence[Facet] = ()) -> None:
        self.config = config or LLMSimulatorConfig.model_validate({})
        self._known = {form: (f.attribute, f.value) for f in known for form in forms(_value(f))}
        self._longest = max(map(len, self._known), default=0)
        self._model, self._rule = model, RuleSimulator(self.config)
        variables: dict[str, Kind] = {"thing": "text", "persona": "lines", "lines": "pairs", "task": "text"}
        self._template = Template(load_prompt("speak", _TEMPLATE), variables, needs=("task",))
        self.name = f"LLM ({model.name})"

    def speak(self, scenes: Sequence[Scene]) -> list[Utterance]:
        """Return what each user says next; one batch of calls."""
        actions = [self._rule.act(scene) for scene in scenes]
        asked = [at for at, action in enumerate(actions) if action.act != "leave"]
        replies = self._model.chat([self._request(scenes[at], actions[at]) for at in asked])
        said = {at: self._worded(actions[at], reply) for at, reply in zip(asked, replies, strict=True)}
        return [said.get(at) or Utterance(action) for at, action in enumerate(actions)]

    def _worded(self, action: Action, reply: ChatReply) -> Utterance:
        """Return the utterance of a reply, or the rules' where it cannot be used."""
        text = plain(_LABEL.sub("", without_thoughts(reply.text).strip().split("\n\n")[0]), _LONGEST)
        if match := _QUOTED.match(text):
            text = match[1].strip()
        failure: str | None = None if reply.failure == "truncated" else reply.failure
        failure = failure or ("empty" if not text else self._unfit(action, text))
        if failure is not None:
            return Utterance(action, None, (failure,), text, reply.usage, 1)
        return Utterance(replace(action, text=text), action.text, usage=reply.usage, calls=1)

    def _unfit(self, action: Action, text: str) -> str | None:
        """Return why words do not do what they should, None if they do."""
        if _LIST.search(text):
            return "role"
        heard = folded(text)
        spans = {heard[i:j] for i in range(len(heard)) for j in range(i + 1, min(len(heard), i + max(self._longest, 8)) + 1)}
        meant = (*action.conveys, *action.refuses)
        if any(not spans & forms(_value(f)) for f in meant):
            return "omitted"
        own = {form for f in meant for form in forms(_value(f))}
        said = {self._known[span] for span in spans if span in self._known and span not in own}
        return "added" if said - {(f.attribute, f.value) for f in meant} else None

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


def _value(facet: Facet) -> Words:
    """Return the words by which a facet is known."""
    return folded(f"{facet.value}s" if facet.decade else facet.value)
