"""What the chat page begins with: agents to choose from, users, and requests that this catalogue can answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm4rec.agents.engine import Engine

#: Users that are offered by name, and characters of a title in an example.
_USERS, _TITLE = 30, 60


def talk(engine: Engine, user: str, agents: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows; agents are offered where there are several."""
    offered = agents if len(agents) > 1 else ()
    return {"user": user, "users": engine.dataset.users.ids[:_USERS], "agents": offered, "examples": _examples(engine)}


def _examples(engine: Engine) -> list[str]:
    catalogue = engine.catalogue
    order = np.argsort(-engine.popularity, kind="stable")[:50].tolist()
    known = next((catalogue.names[i] for i in order if len(catalogue.names[i]) <= _TITLE), catalogue.names[order[0]][:_TITLE])
    found = [f"Something like “{known}”"]
    grouping = [a for a in catalogue.grouping if not a.endswith("_id")]
    words = next((a for a in grouping if any(not v.isdigit() for v, _ in catalogue.values(a)[:3])), None)
    if words is not None:
        values = [v for v, _ in catalogue.values(words) if not v.isdigit()]
        found.append(f"3 {values[0]}, but no {values[1]}" if len(values) > 1 else f"3 {values[0]}")
        if "year" in catalogue.attributes and len(values) > 1:
            found.append(f"5 {values[1]} from the 1990s")
    return [*found, "What do you know about me?"]
