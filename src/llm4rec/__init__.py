"""LLM4Rec: language models in recommender systems, measured beside the strongest alternatives."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm4rec.core import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give the values and verbs of ``llm4rec.core`` on first use, so that ``import llm4rec`` is cheap."""
    core = import_module("llm4rec.core")  # "from llm4rec import core" would ask this function for core
    if name in core.__all__:
        return getattr(core, name)
    raise AttributeError(f"module 'llm4rec' has no attribute {name!r}")


def __dir__() -> list[str]:
    core = import_module("llm4rec.core")
    return [*core.__all__, "__version__"]
