"""The documentation is true: its examples run, its links lead somewhere, its pictures exist.

The ```` ```python ```` blocks of a page run top to bottom in one namespace, in an empty folder.
A block tagged ``notest`` does not run; what it needs (a server, a download) is said beside it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)$")
_LINK = re.compile(r"!?\[[^\]\n]*\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML = re.compile(r"<(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=\"(?P<target>[^\"]+)\"")


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (first line, info string, content) of each fenced block."""
    opened: tuple[int, str, str, str] | None = None
    content: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, content = (number + 1, match["fence"], match["info"].strip(), match["indent"]), []
        elif match and match["fence"].startswith(opened[1]) and not match["info"].strip():
            yield opened[0], opened[2], textwrap.dedent("\n".join(content))
            opened = None
        else:
            content.append(line)
    assert opened is None, f"the block at line {opened[0]} is never closed"


def examples(text: str) -> list[tuple[int, str]]:
    """Return (first line, source) of the blocks that must run."""
    return [
        (line, code) for line, info, code in blocks(text) if info.split()[:1] == ["python"] and "notest" not in info.split()
    ]


def unfenced(text: str) -> Iterator[str]:
    """Yield the lines outside of fenced blocks."""
    fence = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and (not fence or match["fence"].startswith(fence)):
            fence = "" if fence else match["fence"]
        elif not fence:
            yield line


def prose(text: str) -> str:
    """Return a page without fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", "\n".join(unfenced(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, formed as GitHub forms them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", "\n".join(unfenced(text)), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = sum(1 for a in found if a == slug or re.fullmatch(re.escape(slug) + r"-\d+", a))
        found.add(slug if not number else f"{slug}-{number}")
    return found | set(re.findall(r"<a (?:name|id)=\"([^\"]+)\"", text))


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere within the repository."""
    text = page.read_text()
    broken = []
    for pattern in (_LINK, _HTML):
        for match in pattern.finditer(prose(text)):
            target = unquote(match["target"].split()[0])
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue  # elsewhere; tests do not go there
            path, _, anchor = target.partition("#")
            there = page if not path else (ROOT / path[1:] if path.startswith("/") else page.parent / path)
            if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there.read_text())):
                broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in examples(page.read_text()):
        padded = "\n" * (line - 1) + code  # so that a traceback names the page's own lines
        exec(compile(padded, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


# -- the runner can fail --------------------------------------------------------------------
MADE = """
# A page: with `code`

See [below](#the-end) and [nothing](missing.md), ![a picture](missing.png), [no anchor](#nowhere),
[outside](https://example.org/x), `[code](not-a-link.md)`.

```python
x = 1
```

   ```python notest
   raise RuntimeError
   ```

```toml
[not](a-link.md)
```

````markdown
```python
raise RuntimeError("shown, not run")
```
````

  ```python
  y = x + 1
  ```

<img src="also-missing.svg" alt="">

## The end
"""


def test_finds_the_examples() -> None:
    assert [code for _, code in examples(MADE)] == ["x = 1", "y = x + 1"]
    assert MADE.splitlines()[examples(MADE)[0][0] - 1] == "x = 1"
    with pytest.raises(AssertionError, match="never closed"):
        examples("```python\nx = 1\n")


def test_finds_broken_links(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(MADE)
    assert broken_links(page) == ["missing.md", "missing.png", "#nowhere", "also-missing.svg"]
    (tmp_path / "missing.md").write_text("# Here")
    assert "missing.md" not in broken_links(page)


def test_anchors_are_those_of_github() -> None:
    text = "# A page: with `code`\n## The end\n## The end\n## NDCG@10, and [so on](x.md)\n```\n# no heading\n```\n"
    assert anchors(text) == {"a-page-with-code", "the-end", "the-end-1", "ndcg10-and-so-on"}


def test_a_wrong_example_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError) as error:
        test_examples_run(page, tmp_path, monkeypatch, capsys)
    assert error.traceback[-1].lineno == 3  # counted from 0: the page's fourth line
