"""From a system's specification to the object that answers, and back from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm4rec.core import Component, Resources
from llm4rec.experiment.spec import Part, System
from llm4rec.pipeline import Controller, Pipeline


def build(system: System, resources: Resources, retrievers: Mapping[str, Any]) -> Any:
    """Make a system's component, or its pipeline over fitted retrievers; nothing is fitted."""

    def make(part: Part) -> Component[Any]:
        return part.entry.component.create(part.config, resources)

    augmenters = [make(p) for p in system.augment]
    if system.part is not None:
        component = make(system.part)
        return Pipeline({system.part.component: component}, augmenters=augmenters) if augmenters else component
    explainer = make(system.explain) if system.explain is not None else None
    if system.choose is not None:
        chooser: Any = make(system.choose)
        return Controller(retrievers, chooser, [make(p) for p in system.rank], explainer, system.pipeline, augmenters)
    return Pipeline(retrievers, [make(p) for p in system.rank], explainer, system.pipeline, augmenters)


def restore(built: Any, folder: Path, resources: Resources) -> Any:
    """Return the component or pipeline with what was saved in ``folder``."""
    return built.load_parts(folder, resources) if isinstance(built, Pipeline) else type(built).load(folder, resources)
