"""The database of what must outlast a process: SQLite by default, any other by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from llm4rec.core import RunError

_WAIT = 10  # seconds for another writer


def open_database(place: str | Path) -> Engine:
    """Return the database of a URL, or the SQLite file of a path; made if it is not there.

    A commit to SQLite is on the disk when it returns (write-ahead log, synchronous), and what is
    deleted is overwritten.

    Raises:
        RunError: if it cannot be opened; a password in the URL is not repeated.
    """
    text = str(place)
    is_file = "://" not in text
    try:
        url = make_url(f"sqlite:///{Path(text).resolve()}" if is_file else text)
        where = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite", hide_parameters=True)
        if url.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _prepare)
        with engine.connect():
            return engine
    except (ArgumentError, ImportError) as error:
        raise RunError(f"is no database that can be opened here ({type(error).__name__})", where="the store's URL") from None
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        reason = cause.strerror if isinstance(cause, OSError) else type(cause).__name__
        raise RunError(f"cannot be opened ({reason})", where=where, todo="name another store") from None


def _prepare(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", f"busy_timeout = {_WAIT * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
