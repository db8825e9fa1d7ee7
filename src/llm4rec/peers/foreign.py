"""A peer's script in a peer's interpreter: asked line by line, cut off in time, its last words in the error."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llm4rec.peers.environments import PEERS, PeerError, interpreter

SCRIPTS = Path(__file__).parent / "scripts"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
#: Variables of our interpreter that must not reach another one.
_OWN = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}

#: A request -> the script's answer; raises ``PeerError``.
Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@contextmanager
def foreign(peer: str, folder: Path, *, threads: int | None, minutes: float) -> Iterator[Ask]:
    """Start the script of a peer in ``folder``, and stop it on leaving.

    Args:
        peer: which.
        folder: the working directory; the files of the exchange lie there.
        threads: of the numerical libraries; None for what they choose.
        minutes: after which the process is ended, whatever it is doing.
    """
    label, said = PEERS[peer].label, folder / "stderr.txt"
    environment = {k: v for k, v in os.environ.items() if k not in _OWN}
    if threads is not None:
        environment |= dict.fromkeys(_THREADS, str(threads))
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [interpreter(peer), "-u", SCRIPTS / f"{peer}_peer.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=environment, text=True,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    watch = threading.Timer(60 * minutes, end)
    watch.daemon = True
    watch.start()

    def ask(request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            answer: Mapping[str, Any] = json.loads(line)
            return answer
        process.wait()
        if late.is_set():
            raise PeerError(f"not done after {minutes:g} minutes", where=label, todo="give more 'minutes', or fewer epochs")
        raise PeerError(last_words(said) or f"ended with exit status {process.returncode}", where=label)

    try:
        yield ask
    finally:
        watch.cancel()
        with suppress(BrokenPipeError):  # what a process that has ended did not read
            process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def last_words(file: Path) -> str:
    """Return the last line of a log that says something."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
