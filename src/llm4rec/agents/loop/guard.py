"""What a model may not do on its own: write to the user's memory without the user's word.

Item text reaches the model, and might tell it to remember or to forget. A rule in the prompt would be a request; this
is code.
"""

from __future__ import annotations

import re

from llm4rec.agents.turn import Call
from llm4rec.prompted.explain.mentions import folded, forms

_FORGETTING = re.compile(r"\b(?:forget|delete|remove|erase|clear)\b", re.I)
#: Words that a fact may have beyond what the user said.
_SMALL_WORDS = """
a an and are at be for from has have he her his i in is it its like likes dislike dislikes love loves hate hates me my
no not of on or she some that the their them they this to user was with wants want you your
"""
_SMALL = frozenset(_SMALL_WORDS.split())


def refusal(call: Call, request: str) -> str | None:
    """Return why a call is not made, or None for one that may be: memory changes on the user's own words alone.

    What is remembered has to be said in the request: each of its words, small ones aside, in singular or
    plural. To forget, the request has to speak of it.
    """
    if call.tool == "forget" and not _FORGETTING.search(request):
        return "the user did not ask for anything to be forgotten"
    if call.tool == "remember":
        said = set(folded(request))
        told = [word for word in folded(str(call.arguments.get("text", ""))) if word not in _SMALL]
        if any(not said & {form[0] for form in forms((word,))} and not _stem(word, said) for word in told):
            return "the user did not say that in the request, and only what the user says is kept"
    return None


def _stem(word: str, said: set[str]) -> bool:
    """Did the user say a word's plural, or the word where this is the plural?"""
    return any((word,) in forms((other,)) for other in said)
