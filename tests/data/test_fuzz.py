"""Any bytes under any name give a data set or a DataError of one line, and nothing else."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm4rec.core import DataError, Dataset
from llm4rec.data import read

NAMES = ("e.csv", "e.tsv", "e.inter", "e.dat", "e.txt", "e.parquet", "e.csv.gz", "e.dat.gz", "e")

token = st.sampled_from(
    ["user_id:token", "item_id:token", "rating:float", "timestamp:float", "user", "item", "time", "rating", "behavior", "u1",
     "i1", "5", "-1.5", "1e400", "nan", "2020-02-30", "1999-12-31T23:59:60Z", "99999999999999999999", "", " ", '"', '""',
     "a,b", "é", "\ufeff", "\u2028", "#", "_blank", "user_duplicated_0", ":", "|", "x" * 300]
)  # fmt: skip
separator = st.sampled_from([",", "\t", "::", "\n", "\r\n", "\r", "\n\n"])
tablelike = st.lists(st.tuples(token, separator), max_size=40).map(lambda cells: "".join(a + b for a, b in cells).encode())
header = st.sampled_from(
    [b"user,item,rating,time\n", b"user,item\n", b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
     b"user\titem\ttime\n", b"1::2::3::4\n"]
)  # fmt: skip


@st.composite
def changed_parquet(draw: st.DrawFn) -> bytes:
    """A Parquet file, or one with a byte changed or an end missing."""
    buffer = io.BytesIO()
    frame = pl.DataFrame({"user": ["a", "b"], "item": [1, 2], "rating": [1.0, None], "time": [1, 2]})
    frame.select(draw(st.permutations(frame.columns))[: draw(st.integers(1, 4))]).write_parquet(buffer)
    body = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))]) if draw(st.booleans()) else bytes(body)


content = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
    tablelike,
    st.tuples(header, tablelike).map(b"".join),
    st.tuples(header, tablelike).map(lambda p: gzip.compress(b"".join(p))),
    changed_parquet(),
)


def outcome(body: bytes, name: str, catalogue: bytes | None, catalogue_name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, items = Path(folder) / name, Path(folder) / f"items_{catalogue_name}"
        path.write_bytes(body)
        if catalogue is not None:
            items.write_bytes(catalogue)
        try:
            log = read(path, None if catalogue is None else items)
        except DataError as error:
            line = str(error)
        else:
            line = ""
            assert isinstance(log, Dataset)
            assert len(log.events) > 0
            assert log.events.null_count().sum_horizontal()[0] == 0
        assert "\n" not in line
        assert len(line) < 1500


@settings(max_examples=250, deadline=None)
@given(content, st.sampled_from(NAMES))
@example(b'user,item\n"a,b\nc,d\n', "e.csv")
@example(b"a", "e.inter")
@example(b"user,item,time\nu,i,9223372036854775807\nu,i,-9223372036854775808\n", "e.csv")
@example(b"user,item,time\nu,i,-9223372036854775808\n", "e.csv")
@example(b"user,item,#\nu,i,1\n", "e.csv")
@example(b"user,item,_blank\nu,i,1\n", "e.csv")
def test_any_events(body: bytes, name: str) -> None:
    outcome(body, name, None, "")


@settings(max_examples=150, deadline=None)
@given(content, st.sampled_from(NAMES))
@example(b"item,#\na,1\n", "i.csv")
@example(b"item,user\na,1\n", "i.csv")
@example(b"item,item_right\na,1\n", "i.csv")
def test_any_catalogue(body: bytes, name: str) -> None:
    outcome(b"user,item\nu1,i1\nu1,5\n", "e.csv", body, name)
