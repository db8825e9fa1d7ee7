"""All benchmarks, one after the other, each in a process of its own: ``python -m benchmarks [NAME ...]``.

Prints their lines of JSON under a heading and keeps them in ``benchmarks/results/NAME.jsonl``,
with the machine and the date.  ``docs/benchmarks.md`` says what they mean.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from llm4rec.experiment.environment import machine, packages

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; returns 1 if one of them failed."""
    known = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))
    if unknown := set(names) - set(known):
        sys.stderr.write(f"unknown benchmarks {sorted(unknown)}; known: {', '.join(known)}\n")
        return 1
    (HERE / "results").mkdir(exist_ok=True)
    head = json.dumps({"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "packages": packages()})
    failed = False
    for name in names or known:
        sys.stdout.write(f"# {name}\n")
        sys.stdout.flush()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False
        )
        sys.stdout.write(done.stdout)
        if done.returncode == 0:
            (HERE / "results" / f"{name}.jsonl").write_text(f"{head}\n{done.stdout}")
        failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
