"""Seconds and peak memory from a CSV file to a split; prints lines of JSON.

Made worlds (``llm4rec data make``) of MovieLens-1M's and MovieLens-25M's size, as ratings.csv, are read in a fresh
process each, users and items with at least five events kept, and split leave-one-out, the split's fingerprint
included.  ``peak_rss_gb`` is that process's, libraries and all.  ``python benchmarks/reading.py [ml-1m ml-25m]``;
the files are made once, in ``LLM4REC_BENCH`` (default: a folder in the system's temporary one; 690 MB).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from llm4rec.data.made import write
from llm4rec.data.world import SHAPES, World, WorldConfig

THREADS = "2"
_READ = """
import json, resource, sys, time
start, spent = time.perf_counter(), time.process_time()
from llm4rec import data
imported = time.perf_counter() - start
log = data.read(sys.argv[1], user_core=5, item_core=5)
read = time.perf_counter() - start
split = data.make_split(log)
print(json.dumps({
    "events": len(log.events), "users": log.n_users, "items": log.n_items, "cases": len(split.test),
    "import_seconds": round(imported, 2), "read_seconds": round(read - imported, 2),
    "split_seconds": round(time.perf_counter() - start - read, 2), "seconds": round(time.perf_counter() - start, 2),
    "cpu_seconds": round(time.process_time() - spent, 2),
    "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 2),
}))
"""


def made(shape: str) -> Path:
    """Return the ratings of a made world as large as a known set; made where they are not there yet."""
    folder = Path(os.environ.get("LLM4REC_BENCH", Path(tempfile.gettempdir()) / "llm4rec-bench")) / shape
    if not (folder / "movies.csv").is_file():  # written last
        write(World(WorldConfig.model_validate(SHAPES[shape])), folder)
    return folder / "ratings.csv"


def measure(path: Path) -> dict[str, float]:
    """Return the figures of one fresh process on two threads that reads and splits a file."""
    threads = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), THREADS)
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    for name in sys.argv[1:] or ["ml-1m", "ml-25m"]:
        sys.stdout.write(json.dumps({"benchmark": "reading", "shape": name, **measure(made(name))}) + "\n")
