"""From the original ``ml-100k.zip`` to RecBole's atomic files, byte for byte.

Both roads to MovieLens-100K therefore end in the same files under the same sha256.  Two oddities
of those files are kept: the one film without a title is spelt ``unkonwn``, and the year is
whatever stands in a title's last brackets (``V`` for one film).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping


def to_atomic(archive: zipfile.ZipFile) -> Mapping[str, bytes]:
    """Return the three atomic files made of ``u.data``, ``u.item``, ``u.user`` and ``u.genre``."""

    def lines(member: str) -> list[str]:
        return archive.read(f"ml-100k/{member}").decode("latin-1").splitlines()

    genres = [line.split("|")[0] for line in lines("u.genre") if line]
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for line in lines("u.item"):
        fields = line.split("|")
        before, _, after = fields[1].rpartition("(")
        title, year = (before.strip(), after.strip().rstrip(")")) if before else ("unkonwn", "unkonwn")
        kinds = " ".join(genre for genre, flag in zip(genres, fields[5:], strict=True) if flag == "1")
        items.append("\t".join((fields[0], title, year, kinds)))
    users = ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"]
    users += [line.replace("|", "\t") for line in lines("u.user")]
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    return {
        "ml-100k.inter": header + archive.read("ml-100k/u.data"),
        "ml-100k.item": ("\n".join(items) + "\n").encode(),
        "ml-100k.user": ("\n".join(users) + "\n").encode(),
    }
