"""The cache: each asset in a folder of its own, every file in it verified.

A download goes into a hidden folder beside the asset's and is moved over file by file once its
sha256 is right, so the cache never holds a half or a wrong file.  Two processes that want one
asset take turns by a file lock where the system has them; without locks both download, and the
moves still leave whole files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llm4rec.assets.catalog import ASSETS
from llm4rec.assets.source import Asset, SourceError, sha256
from llm4rec.core.errors import AssetError, did_you_mean

log = logging.getLogger("llm4rec.assets")

_STAMP = ".verified.json"  # member -> [size, mtime in ns, sha256] when it was last hashed


def home() -> Path:
    """Return the cache: ``LLM4REC_HOME``, else ``llm4rec`` in the user's XDG cache."""
    if named := os.environ.get("LLM4REC_HOME"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llm4rec"


def _find(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r}", todo=did_you_mean(name, ASSETS))
    return ASSETS[name]


def folder(name: str) -> Path:
    """Return where the asset lies or would lie; raises ``AssetError`` for an unknown name."""
    return home() / "assets" / _find(name).name


def is_cached(name: str) -> bool:
    """Are all members of the asset in the cache, with the right sha256?"""
    return not _missing(_find(name), folder(name))


def fetch(name: str) -> Path:
    """Return the folder that holds the asset's verified members, downloading them at most once.

    Raises:
        AssetError: unknown name; no source delivered (the line says what was tried and where to
            put the files by hand); the cache cannot be written, or the disk is full.
    """
    asset, target = _find(name), folder(name)
    if not _missing(asset, target):
        return target
    try:
        with _lock(target):
            if missing := _missing(asset, target):
                _bring(asset, missing, target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise AssetError(
            f"cannot store {name}: {'the disk is full' if full else error.strerror or error}",
            where=str(home()),
            todo=f"{'free' if full else 'this needs'} {asset.size / 1e6:.0f} MB"
            f"{'' if full else ' in a folder that you may write to'}, or set LLM4REC_HOME to another folder",
        ) from None
    return target


def _bring(asset: Asset, missing: dict[str, str], target: Path) -> None:
    tried = []
    for source in asset.sources:
        log.info("fetching %s from %s", asset.name, source.place)
        with tempfile.TemporaryDirectory(prefix=_partial(target), dir=target.parent) as partial:
            try:
                source.bring(missing, Path(partial))
                for member, pinned in missing.items():
                    if (found := sha256(Path(partial) / member)) != pinned:
                        raise SourceError(f"{member} has sha256 {found[:12]}..., not the pinned {pinned[:12]}...")
            except SourceError as error:
                log.info("%s did not come from %s: %s", asset.name, source.place, error)
                tried.append(f"{source.place} ({error})")
                continue
            for member in missing:
                (target / member).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(partial) / member, target / member)
        _stamp(asset, target)
        log.info("%s is in %s", asset.name, target)
        return
    raise AssetError(
        f"cannot fetch {asset.name}: tried {'; '.join(tried)}",
        todo=f"put {', '.join(missing)} by hand into {target} (see {asset.origin})",
    )


def _missing(asset: Asset, target: Path) -> dict[str, str]:
    """Return the members that are not there or not right; hashes only what changed since the last time."""
    try:
        stamps = json.loads((target / _STAMP).read_text())
        known = stamps if isinstance(stamps, dict) else {}
    except (OSError, ValueError):
        known = {}
    missing, hashed = {}, False
    for member, pinned in asset.members.items():
        try:
            stat = (target / member).stat()
            if known.get(member) == [stat.st_size, stat.st_mtime_ns, pinned]:
                continue
            hashed = True
            if sha256(target / member) == pinned:
                continue
            log.warning("%s has a wrong sha256 and is fetched anew", target / member)
        except OSError:
            pass
        missing[member] = pinned
    if hashed and not missing:
        _stamp(asset, target)
    return missing


def _stamp(asset: Asset, target: Path) -> None:
    stats = {member: (target / member).stat() for member in asset.members}
    stamps = {m: [s.st_size, s.st_mtime_ns, asset.members[m]] for m, s in stats.items()}
    with contextlib.suppress(OSError):  # a cache that is read-only is hashed each time
        draft = target / f"{_STAMP}.{os.getpid()}"
        try:
            draft.write_text(json.dumps(stamps))
            os.replace(draft, target / _STAMP)
        finally:
            draft.unlink(missing_ok=True)


def _partial(target: Path) -> str:
    return f".{target.name}.partial-"


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with (target.parent / f".{target.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.info("another process is fetching %s; waiting for it", target.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in target.parent.glob(f"{_partial(target)}*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
