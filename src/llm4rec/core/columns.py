"""Every column name that the package reads or writes, in one place.

Tables of events use the internal names below; readers rename on the way in,
and a run directory's tables (see ``docs/run-directory.md``) use the last block.
"""

from __future__ import annotations

from typing import Final

# -- events and catalogue ---------------------------------------------------------------
USER: Final = "user"
ITEM: Final = "item"
TIME: Final = "time"  # seconds since 1970-01-01 UTC, int64
VALUE: Final = "value"  # rating, count or weight of an event, float32
BEHAVIOR: Final = "behavior"  # code of the kind of event, int8; names are in Dataset.behaviors
EVENT_COLUMNS: Final = (USER, ITEM, TIME, VALUE, BEHAVIOR)

# -- tables of a run directory ----------------------------------------------------------
CASE: Final = "case"
TRUTH: Final = "truth"
CANDIDATES: Final = "candidates"
SLICES: Final = "slices"
SYSTEM: Final = "system"
SEED: Final = "seed"
STAGE: Final = "stage"
RANK: Final = "rank"
SCORE: Final = "score"
METRIC: Final = "metric"
