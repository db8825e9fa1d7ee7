"""Plain text from the lead of an encyclopedia's page."""

from __future__ import annotations

import html
import re

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_REF = re.compile(r"<ref\b[^>/]*/>|<ref\b[^>]*>.*?</ref\s*>", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(r"<(math|gallery|timeline|nowiki|table)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BEHAVIOUR = re.compile(r"__[A-Z]+__")
_OUTSIDE = re.compile(r"\[(?:https?:)?//[^\s\]]+(?:\s+([^\]]*))?\]")
_HEADING = re.compile(r"^={2,6}[^=\n].*?=+\s*$", re.MULTILINE)
_CATEGORY = re.compile(r"\[\[\s*Category\s*:\s*([^\]|]+)", re.IGNORECASE)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:disambig|disambiguation|dab|hndis|geodis|surname|given name)\b|__DISAMBIG__", re.IGNORECASE
)
#: Longest source of a page that is read, in characters.
_MOST = 200_000


def is_disambiguation(source: str) -> bool:
    """Does a page only list other pages?"""
    return _DISAMBIGUATION.search(source) is not None


def categories(source: str) -> list[str]:
    """Return the names of the page's categories."""
    return [name.strip() for name in _CATEGORY.findall(source)]


def lead(source: str) -> str:
    """Return what stands before the first heading as plain text: no templates, tables, files, references or marks."""
    source = _BLOCK.sub(" ", _REF.sub(" ", _COMMENT.sub("", source[:_MOST])))
    source = _without(_without(source, "{{", "}}"), "{|", "|}")
    source = source[: heading.start()] if (heading := _HEADING.search(source)) else source
    source = _links(source)
    source = _OUTSIDE.sub(lambda m: m[1] or "", source)
    source = html.unescape(_BEHAVIOUR.sub("", _TAG.sub("", source))).replace("'''", "").replace("''", "")
    lines = (line.strip() for line in source.splitlines())
    text = " ".join(" ".join(line for line in lines if line and line[0] not in "*#:;|!").split())
    return re.sub(r"\(\s*[;,]?\s*\)", "", text).replace(" ,", ",").replace("  ", " ").strip()


def _without(source: str, opening: str, closing: str) -> str:
    """Return a text without what stands between nested brackets; an opening without an end hides the rest."""
    out: list[str] = []
    depth, at = 0, 0
    for match in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", source):
        if match[0] == opening:
            if depth == 0:
                out.append(source[at : match.start()])
            depth += 1
        elif depth:
            depth -= 1
            at = match.end()
    if depth == 0:
        out.append(source[at:])
    return "".join(out)


def _links(source: str) -> str:
    """Return a text with links to pages as their words; links to files and categories vanish with all within."""
    out: list[list[str]] = [[]]
    for part in re.split(r"(\[\[|\]\])", source):
        if part == "[[":
            out.append([])
        elif part == "]]" and len(out) > 1:
            inner = "".join(out.pop())
            target, _, words = inner.partition("|")
            special = re.match(r"\s*(?:file|image|category|datei|bild|fichier)\s*:", target, re.IGNORECASE)
            out[-1].append("" if special else (words.rsplit("|", 1)[-1] or target).strip())
        else:
            out[-1].append(part)
    return "".join("".join(parts) for parts in out)
