"""Seconds to import the package and to print the command line's help; prints one line of JSON.

Each is the median of seven fresh processes.  ``python benchmarks/startup.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

COMMANDS: dict[str, Sequence[str]] = {
    "python": ("-c", "pass"),
    "import llm4rec": ("-c", "import llm4rec"),
    "import llm4rec.core": ("-c", "import llm4rec.core"),
    "llm4rec --help": ("-m", "llm4rec.app.cli", "--help"),
}


def measure(repeats: int = 7) -> dict[str, float]:
    """Return the median wall time in seconds of each command, the interpreter's own start included."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - start)
    return {name: round(float(np.median(seconds)), 3) for name, seconds in taken.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"benchmark": "startup", "seconds": measure()}) + "\n")
