"""Prompt templates: the built-in ones beside this file, or one of the user's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm4rec.core import SpecError

_FOLDER = Path(__file__).parent / "templates"


@lru_cache(maxsize=64)
def load_template(name: str, path: str | None = None) -> Template:
    """Return the built-in template of a name, or the one in the file at ``path``.

    Values are put into a prompt as they are; what they hold is never read as a template.

    Raises:
        SpecError: if the file cannot be read, or is not a template.
    """
    file = _FOLDER / f"{name}.j2" if path is None else Path(path)
    # Sandboxed, because a spec (and the template it names) may come from somebody else.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        return environment.from_string(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the template ({error})", where=f"template {file}") from None
    except TemplateError as error:
        raise SpecError(f"not a jinja template ({error})", where=f"template {file}") from None
