"""Files of weights: where they lie, what identifies them, and folders that are built once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from llm4rec.core import ModelError

_READ = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"}
_MANIFEST = "converted.json"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return one hash of the names and contents of a folder's weights, tokenizer and configuration."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in _READ):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def located(source: Path | str) -> Path | None:
    """Return the GGUF file or folder that a source names, or None if it can only be a hub name.

    A folder with one GGUF file and no ``config.json`` stands for that file.  Raises ``ModelError``
    for a path to nothing and for a folder without a model.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return files[0]
        what = f"holds {len(files)} GGUF files" if files else "holds neither config.json nor a GGUF file"
        raise ModelError(f"the folder {what}", where=str(path), todo="name the model's own folder or file")
    text = str(source)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.suffix == ".gguf":
        raise ModelError("no such model file or folder", where=text)
    return None


def built_once(cache: Path, name: str, sha256: str, build: Callable[[Path], None]) -> Path:
    """Return the folder ``name`` in ``cache``, made by ``build`` if it is not there.

    It appears under its name only when it is complete: a killed build leaves nothing that counts,
    and of two processes at once the slower one takes what the faster one made.
    """
    final = cache / name
    if (final / _MANIFEST).is_file():
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".building-", ignore_cleanup_errors=True) as work:
            folder = Path(work) / "model"
            build(folder)
            (folder / _MANIFEST).write_text(json.dumps({"sha256": sha256}) + "\n")
            if final.exists() and not (final / _MANIFEST).is_file():
                shutil.rmtree(final, ignore_errors=True)
            try:
                folder.rename(final)
            except OSError:
                if not (final / _MANIFEST).is_file():
                    raise
    except OSError as error:
        raise ModelError(
            f"cannot convert the model ({error.strerror or error})", where=str(cache), todo="make room, or name another folder"
        ) from None
    return final


def native_bfloat16() -> bool:
    """Does this processor multiply bfloat16 itself?  Elsewhere it is emulated, and slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})
