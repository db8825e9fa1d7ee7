"""Which column of a user's file plays which part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from llm4rec.core import DataError, did_you_mean
from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER, VALUE

Role = Literal["user", "item", "time", "value", "behavior"]

#: Common names of each role's column, without case and punctuation.
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    USER: frozenset({
        "user", "userid", "uid", "userno", "username", "visitor", "visitorid", "customer", "customerid", "reviewerid",
        "memberid", "accountid", "personid",
    }),
    ITEM: frozenset({
        "item", "itemid", "iid", "itemno", "movie", "movieid", "product", "productid", "asin", "parentasin", "bookid",
        "isbn", "songid", "trackid", "artistid", "newsid", "articleid", "videoid", "businessid", "gameid", "recipeid", "sku",
    }),
    TIME: frozenset({
        "time", "timestamp", "ts", "date", "datetime", "unixtime", "unixreviewtime", "reviewtime", "eventtime",
        "createdat", "ratedat",
    }),
    VALUE: frozenset({
        "value", "rating", "ratings", "score", "overall", "stars", "weight", "count", "playcount", "plays",
    }),
    BEHAVIOR: frozenset({
        "behavior", "behaviour", "event", "eventtype", "eventname", "action", "actiontype", "interactiontype",
    }),
}  # fmt: skip


def normal(name: str) -> str:
    """Return a column's name without case, punctuation and blanks."""
    return re.sub(r"[\W_]+", "", name.lower())


def assign(
    columns: Sequence[str], given: Mapping[str, str], wanted: Sequence[str], required: Sequence[str], *, where: str
) -> dict[str, str]:
    """Return role -> column for the wanted roles, from what the user says and else from common names.

    Raises:
        DataError: a named column is missing (with the nearest name), a required role has no
            column, or two columns look alike.
    """
    found: dict[str, str] = {}
    for role in wanted:
        if role in given:
            name = given[role]
            if name and name not in columns:
                raise DataError(f"no column {name!r} (for {role!r})", where=where, todo=did_you_mean(name, columns))
            if name in found.values():
                other = next(r for r, c in found.items() if c == name)
                raise DataError(f"the column {name!r} cannot be both {other} and {role}", where=where, todo="mend columns")
            if name:
                found[role] = name
            continue
        taken = set(given.values())
        near = [c for c in columns if normal(c) in KNOWN[role] and c not in taken]
        if len(near) > 1:
            exact = [c for c in near if c == role]
            if len(exact) != 1:
                raise DataError(
                    f"the columns {' and '.join(map(repr, near))} all look like the {role}",
                    where=where,
                    todo=f'say which: columns = {{{role} = "{near[0]}"}}',
                )
            near = exact
        if near:
            found[role] = near[0]
    for role in required:
        if role not in found:
            hint = f'say which it is: columns = {{{role} = "..."}}'
            raise DataError(
                f"no column for the {role} (columns: {', '.join(map(repr, columns[:12])) or 'none'})",
                where=where,
                todo=f"{_nearest(role, columns)}{hint}",
            )
    return found


def _nearest(role: str, columns: Sequence[str]) -> str:
    for column in columns:
        guess = did_you_mean(normal(column), KNOWN[role])
        if guess.startswith("did you mean"):
            return f"is it {column!r}? Then "
    return ""
