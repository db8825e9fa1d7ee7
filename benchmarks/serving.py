"""``POST /v1/recommend`` under steady load and ``POST /v1/chat`` in many streams, from a client process; prints lines of JSON.

SASRec of a short training on MovieLens-100K (lists of 10, seen masked), served by ``llm4rec serve`` in a process of
its own with one thread for the scores. The load is open: requests start at a fixed rate whether or not earlier ones
are answered, and a request's time counts from the moment at which it should have started, so that a server that
stalls cannot hide it. Client and server share the machine's processors, as the bar says. Chat: so many connections are
opened, then each asks the rule agent for a list, and all streams are open until the last has ended.
``python benchmarks/serving.py [RATE ...]``; the run is made once, in the folder of ``LLM4REC_BENCH_RUN`` if set.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SECONDS, WARM, STREAMS = 20, 3, 1_000
SPEC = """
[experiment]
name = "serving"
[data]
set = "ml-100k"
user_core = 5
item_core = 5
[systems.popular]
component = "popular"
[systems.sasrec]
component = "sasrec"
epochs = 2
"""


def make(folder: Path) -> Path:
    """Return a run directory, made if it is not there; what the model has learnt does not change what it costs."""
    if not (folder / "run" / "summary.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "serving.toml").write_text(SPEC)
        command = [sys.executable, "-m", "llm4rec.app.cli", "run", str(folder / "serving.toml"), "--out", str(folder / "run")]
        subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return folder / "run"


async def one(
    port: int, body: bytes, start: float, connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
) -> float:
    """Send one request at its moment; returns its seconds, from when it was due to the answer's last byte."""
    await asyncio.sleep(start - time.perf_counter())
    try:
        reader, writer = connections.get_nowait()
    except asyncio.QueueEmpty:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise RuntimeError(lines[0].decode())
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    await reader.readexactly(length)
    taken = time.perf_counter() - start
    connections.put_nowait((reader, writer))
    return taken


async def load(port: int, rate: float, seconds: float, users: Sequence[str]) -> np.ndarray:
    """Return the seconds of each request of a steady load."""
    begin, connections = time.perf_counter() + 0.1, asyncio.Queue()  # type: ignore[var-annotated]
    bodies = [json.dumps({"user": user, "k": 10}).encode() for user in users]
    n = int(rate * seconds)
    tasks = [asyncio.create_task(one(port, bodies[i % len(bodies)], begin + i / rate, connections)) for i in range(n)]
    taken = await asyncio.gather(*tasks)
    while not connections.empty():
        connections.get_nowait()[1].close()
    return np.array(taken)


async def talks(port: int, n: int, users: Sequence[str]) -> dict[str, object]:
    """Open ``n`` connections, ask for a turn on each at once, and return when first words and whole answers came."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(n)]
    begin = time.perf_counter()

    async def turn(at: int) -> tuple[float, float, bool]:
        reader, writer = streams[at]
        body = json.dumps({"user": users[at % len(users)], "message": "5 comedies, but no horror"}).encode()
        head = "POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"event: ")
        first = time.perf_counter() - begin
        whole = b"event: done" in await reader.read()
        return first, time.perf_counter() - begin, whole

    told = await asyncio.gather(*(turn(at) for at in range(n)))
    for _, writer in streams:
        writer.close()
    first, last = np.array([t[0] for t in told]), np.array([t[1] for t in told])
    return {
        "streams": n, "answered": sum(t[2] for t in told), "first_event_p50_s": round(float(np.median(first)), 2),
        "first_event_max_s": round(float(first.max()), 2), "done_p50_s": round(float(np.median(last)), 2),
        "done_max_s": round(float(last.max()), 2),
    }  # fmt: skip


def measure(run: Path, rates: Sequence[float]) -> None:
    """Print the latencies at several rates of requests a second."""
    command = [sys.executable, "-m", "llm4rec.app.cli", "serve", str(run), "--system", "sasrec", "--port", "0"]
    with tempfile.TemporaryDirectory() as store:
        process = subprocess.Popen(
            [*command, "--store", f"{store}/store.sqlite", "--set", "per_minute=1000000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            port = next(int(found[1]) for line in process.stderr if (found := re.search(r"http://.*:(\d+)", line)))
            users = [str(user) for user in range(1, 900)]
            asyncio.run(load(port, min(rates), WARM, users))
            for rate in rates:
                ms = 1e3 * asyncio.run(load(port, rate, SECONDS, users))
                told = {f"p{q:g}_ms": round(float(np.percentile(ms, q)), 2) for q in (50, 90, 99, 99.9)}
                told |= {"max_ms": round(float(ms.max()), 2), "requests": len(ms)}
                sys.stdout.write(json.dumps({"benchmark": "serving", "rate": rate, **told}) + "\n")
                sys.stdout.flush()
            for n in (1, STREAMS):
                sys.stdout.write(json.dumps({"benchmark": "serving", **asyncio.run(talks(port, n, users))}) + "\n")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    place = os.environ.get("LLM4REC_BENCH_RUN")
    rates = [float(rate) for rate in sys.argv[1:]] or [50, 200, 400]
    if place:
        measure(make(Path(place)), rates)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(make(Path(folder)), rates)
