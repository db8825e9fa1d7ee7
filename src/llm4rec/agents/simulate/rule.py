"""A simulated user without a language model: it speaks in templates of what it wants and does not want.

In the manner of agenda-based simulation (Schatzmann et al., *Agenda-based user simulation*, NAACL 2007): what is still to
be said is a stack of facets; questions are answered, proposals are turned down with a reason that is true.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from llm4rec.agents.simulate.values import Act, Action, Facet, Scene, Utterance
from llm4rec.core import Config
from llm4rec.prompted.explain.mentions import folded

_OPENINGS = (
    "I am looking for something {wish}.", "Can you find something {wish}?", "I feel like something {wish} today.",
    "I would like something {wish}.", "Is there anything {wish}?",
)  # fmt: skip
_MORE = ("Rather something {wish}.", "It should be something {wish}.", "I want something {wish}.", "I prefer something {wish}.")
_NO = ("No {value}, please.", "Not {value}.", "I do not want {value}.", "I would avoid {value}.")
_NONE = ("None of these.", "That is not it.", "These are not for me.", "Hm, not quite.")
_ELSE = "Something else, please."
_NOTHING = ("I see nothing there.", "That leaves me with nothing.")
_ANSWERS = ("{wish}, please.", "I would say {wish}.", "{wish}, I think.")
_VAGUE = ("I do not mind.", "I am not sure.", "I cannot say.", "Surprise me.")
_TAKEN = ("One of these suits me.", "I take one of these.", "Good, there is one for me.")
_LEAVING = "Thank you, I will look elsewhere."

_QUESTION = re.compile(r"[^.!?\n]*\?")
#: What people call an attribute besides its name.
_ALSO = {"year": ("decade", "old", "recent", "when", "era"), "genres": ("kind", "sort"), "categories": ("kind", "sort")}


class RuleSimulatorConfig(Config):
    """Parameters of the rule simulator."""

    opening: int = Field(1, ge=1)
    """Facets that the first request names."""
    more: int = Field(1, ge=0)
    """Facets that each later turn adds of its own accord."""
    wrong: float = Field(0.0, ge=0, le=1)
    """Chance that something said is not so of the wanted item."""
    vague: float = Field(0.0, ge=0, le=1)
    """Chance that a turn says nothing in particular."""
    boredom: int = Field(3, ge=1)
    """Turns in a row that show nothing new, after which the user leaves."""


class RuleSimulator:
    """Speaks by rules.

    The first turn names some facets of the wish. After that a question about an attribute is answered; proposals
    are turned down, with a facet of theirs that the wanted item has not, and another facet of the wish; where nothing was
    shown another facet alone is named. Wordings, order and noise are drawn from the scene's seed.

    Args:
        config: parameters.
    """

    name = "rule"

    def __init__(self, config: RuleSimulatorConfig | None = None) -> None:
        self.config = config or RuleSimulatorConfig.model_validate({})

    def speak(self, scenes: Sequence[Scene]) -> list[Utterance]:
        """Return what each user says next."""
        return [Utterance(self.act(scene)) for scene in scenes]

    def act(self, scene: Scene) -> Action:
        """Return what one user does next."""
        rng = np.random.default_rng(scene.seed)
        # Every scene draws the same numbers in the same order, so that what one agent says moves no other draw.
        vague, wrong = rng.random(2)
        pick = rng.random(4)
        if scene.dull >= self.config.boredom:
            return Action("leave", _LEAVING)
        fresh = self._untold(scene)
        opening = not scene.actions
        asked = None if opening else self._asked(scene)
        act: Act = "inform" if opening else "answer" if asked else "reject" if scene.proposals else "inform"
        if vague < self.config.vague and not opening:
            lead = _one(_VAGUE, pick[0])
            return Action("accept" if scene.taken else "answer" if asked else "inform", lead, noise="vague")
        said = fresh[: self.config.opening if opening else self.config.more]
        if asked:
            said = tuple(f for f in scene.wish.facets if f.attribute == asked)
        noise = ""
        if said and wrong < self.config.wrong and (decoy := _decoy(scene, said[0])) is not None:
            said, noise = (decoy, *said[1:]), "wrong"
        if opening:
            text = _one(_OPENINGS, pick[0]).format(wish=_phrase(said)) if said else "Can you recommend something?"
            return Action("inform", text, said, noise=noise)
        if asked:
            if not said:
                return Action("answer", _one(_VAGUE, pick[0]))
            return Action("answer", _capital(_one(_ANSWERS, pick[0]).format(wish=_listed(said))), said, noise=noise)
        refused = self._reason(scene, pick[3])
        more = _one(_MORE, pick[2]).format(wish=_phrase(said)) if said else "" if refused else _ELSE
        lead = _one(_TAKEN if scene.taken else _NONE if scene.proposals else _NOTHING, pick[0])
        no = "" if refused is None else _refusal(refused, scene.wish.facets, pick[1])
        text = " ".join(filter(None, (lead, no, more)))
        return Action("accept" if scene.taken else act, text, said, () if refused is None else (refused,), noise)

    # -- what there is to say ---------------------------------------------------------------
    def _untold(self, scene: Scene) -> tuple[Facet, ...]:
        told = {f for action in scene.actions for f in action.conveys}
        return tuple(f for f in scene.wish.facets if f not in told)

    def _asked(self, scene: Scene) -> str | None:
        """Return the attribute that the agent's last words ask about."""
        last = next((line.text for line in reversed(scene.lines) if line.speaker == "agent"), "")
        heard = {word for question in _QUESTION.findall(last) for word in folded(question)}
        for attribute in scene.wish.questions:
            stem = attribute.lower().rstrip("s")
            if heard & {attribute.lower(), stem, f"{stem}s", *_ALSO.get(attribute.lower(), ())}:
                return attribute
        return None

    def _reason(self, scene: Scene, draw: float) -> Facet | None:
        """Return what is most often so of the proposals and not of the wanted item, and was not refused before."""
        wanted = set(scene.wish.facets)
        kinds = {f.attribute for f in wanted}
        refused = {f for action in scene.actions for f in action.refuses}
        counts = Counter(f for p in scene.proposals for f in p if f.attribute in kinds and f not in wanted | refused)
        best = sorted(f for f, n in counts.items() if n == max(counts.values()))
        return best[int(draw * len(best))] if best else None


def _one(wordings: Sequence[str], draw: float) -> str:
    return wordings[int(draw * len(wordings))]


def _decoy(scene: Scene, facet: Facet) -> Facet | None:
    return next((d for d in scene.wish.decoys if d.attribute == facet.attribute), None)


def _listed(facets: Sequence[Facet]) -> str:
    values = [f.value for f in facets if not f.decade]
    decades = [f.words for f in facets if f.decade]
    return " ".join(filter(None, (" and ".join(values), " or ".join(decades))))


def _phrase(facets: Sequence[Facet]) -> str:
    plain = any(not f.decade for f in facets)
    return ("with " if plain else "") + _listed(facets)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _refusal(facet: Facet, wanted: Sequence[Facet], draw: float) -> str:
    """Return a reason in words; of a decade on which side of it the wanted one lies."""
    if not facet.decade:
        return _one(_NO, draw).format(value=facet.value)
    own = next((f for f in wanted if f.decade and f.attribute == facet.attribute), None)
    if own is None:
        return ""
    return f"Something from {'after' if own.value > facet.value else 'before'} the {facet.value}s."
