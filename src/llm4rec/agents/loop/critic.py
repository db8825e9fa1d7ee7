"""Reflection: a second reading of an answer before it is given.

After Shinn et al., *Reflexion*, NeurIPS 2023, arXiv 2303.11366.
It fails closed: only a critique that can be read and says ``pass`` lets an answer out.
"""

from __future__ import annotations

from llm4rec.agents.loop.answering import Draft
from llm4rec.agents.loop.protocol import as_data
from llm4rec.agents.loop.work import Work, prompt

SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["pass", "revise"]}, "reason": {"type": "string"}},
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}


def complaint(work: Work, draft: Draft) -> str | None:
    """Return why an answer must be revised, None if it passes.

    Raises:
        Unusable: for a critique that cannot be read; it is counted as ``critique:KIND``.
        Over: if a bound is reached already.
    """
    catalogue = draft.session.engine.catalogue
    details = [catalogue.details(i) for i in draft.shown]
    earlier = "; ".join(exchange.user for exchange in draft.session.dialogue.said)
    items = as_data(details, work.config.listed)
    messages = prompt("critique").messages(request=work.request, said=earlier, items=items, text=draft.text)
    value = work.ask("critique", messages, schema=SCHEMA, model=work.critic).value
    return None if value["verdict"] == "pass" else str(value["reason"])
