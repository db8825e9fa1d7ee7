"""What the command line hands to the server."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm4rec.app.server.config import ServerConfig
from llm4rec.core import RunError, SpecError, did_you_mean


def start(run: Path, given: Mapping[str, Any], settings: Sequence[str]) -> None:
    """Serve a run with options and ``NAME=VALUE`` settings of :class:`ServerConfig`; errors are for people."""
    values = dict(given)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in ServerConfig.model_fields:
            raise SpecError(
                f"{setting!r} is no setting", where="serve --set", todo=did_you_mean(name, ServerConfig.model_fields)
            )
        values[name] = value
    try:
        config = ServerConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SpecError(message, where=".".join(["serve", *map(str, first["loc"])])) from None
    # One thread scores, and requests share the processors with it: more threads within a call cost latency.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from llm4rec.app.server.serve import serve
    except ModuleNotFoundError as error:
        todo = "pip install 'llm4rec[serve]'"
        raise RunError(f"the library {error.name} is not installed", where="serve", todo=todo) from None
    serve(run, config, lambda line: print(line, file=sys.stderr, flush=True))
