"""Explanations with what is known of their users and items in words alone: the set of XRec.

3,000 triples of Amazon books: a profile of the user, a profile of the item, and an explanation of why the
user would buy it, all written by a language model from reviews.  There is no history to check against, so
what an explanation names is held against the two profiles and the title.
Source: Ma, Ren, Huang, XRec: Large language models for explainable recommendation, Findings of EMNLP 2024,
arXiv 2406.02377.
"""

from __future__ import annotations

import gzip
import html
import json
from dataclasses import dataclass
from pathlib import Path

from llm4rec.core import DataError

FILE = "amazon_tst.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Explained:
    """``n`` explanations and their evidence, each a tuple of n texts.

    Attributes:
        users, items: ids of the source.
        titles: of the items.
        user_profiles, item_profiles: what is known of each.
        explanations: as the source has them.
    """

    users: tuple[int, ...]
    items: tuple[int, ...]
    titles: tuple[str, ...]
    user_profiles: tuple[str, ...]
    item_profiles: tuple[str, ...]
    explanations: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.explanations)

    def sources(self, row: int) -> tuple[str, str, str]:
        """Return what the explanation of a row may draw on."""
        return self.titles[row], self.user_profiles[row], self.item_profiles[row]


def read_explained(folder: Path) -> Explained:
    """Read the test part of XRec's Amazon set.

    Raises:
        DataError: the file is not there, or a row lacks a field.
    """
    path = folder / FILE
    try:
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        fields = [
            tuple(row[key] for row in rows) for key in ("uid", "iid", "title", "user_summary", "item_summary", "explanation")
        ]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path), todo="fetch data/amazon of HKUDS/XRec") from None
    except (KeyError, TypeError) as error:
        raise DataError(f"a row lacks the field {error}", where=str(path)) from None
    users, items, *texts = fields
    return Explained(users, items, *(tuple(html.unescape(text) for text in column) for column in texts))
