"""The store as a file to publish: exact, checked line by line, and free of secrets."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.core import RunError
from llm4rec.llm import ChatReply, ChatRequest, LLMConfig, Message, ScoreReply, ScoreRequest, ScriptedModel, Store, Stored
from llm4rec.llm.jsonl import Imported, export_jsonl, import_jsonl
from llm4rec.llm.server import ServerModel
from tests.llm.wire_server import serve


def ask(text: str, **changed: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **changed)


def fill(path: Path, answers: list[str | ChatReply] | None = None) -> Store:
    """Return a store of eight calls, one of them a failure of the transport, one a failure of the model."""
    odd = [ChatReply("", failure="unreachable", detail="gone"), ChatReply('naïve \ud800 "\n', seconds=1 / 3)]
    store = Store(path)
    Stored(ScriptedModel(answers or ["a", "b", *odd]), store).chat([ask(t) for t in ("p", "q ☃", "r\u2028", "s")])
    logprobs = np.array([-1 / 3, math.nan, -math.inf, -1e-320])
    reply = ScoreReply(logprobs, np.array([1, 2, 3, 4], np.int32), failure="missing_logprob", seconds=0.1)
    Stored(ScriptedModel(scores=[reply]), store).score([ScoreRequest("x", ("a", "b", "c", "d"))])
    Stored(ScriptedModel(name="other"), store).score([ScoreRequest((Message("user", "x"),), (f"{i}",)) for i in range(3)])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fill(tmp_path / "llm.sqlite") as opened:
        yield opened


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    assert export_jsonl(store, tmp_path / "calls.jsonl") == 8
    return tmp_path / "calls.jsonl"


def test_round_trip_is_exact(store: Store, exported: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "new.sqlite") as new:
        assert import_jsonl(new, exported) == Imported(8, 8, 0, 0)
        assert list(new) == list(store)
        export_jsonl(new, tmp_path / "again.jsonl")
        assert import_jsonl(new, exported) == Imported(8, 0, 0, 8)  # twice is once
    assert exported.read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert not list(tmp_path.glob(".exporting-*"))


def test_an_imported_store_replays(exported: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "new.sqlite") as new:
        import_jsonl(new, exported)
        stored = Stored(ScriptedModel(name="other"), new, "replay")
        assert stored.score([ScoreRequest((Message("user", "x"),), ("1",))])[0].cached


def test_the_order_of_calls_does_not_matter(tmp_path: Path) -> None:
    files = []
    for at, texts in enumerate((["a", "b", "c"], ["c", "a", "b"])):
        with Store(tmp_path / f"{at}.sqlite") as store:
            Stored(ScriptedModel(lambda r: r.messages[0].content), store).chat([ask(t) for t in texts])
            export_jsonl(store, tmp_path / f"{at}.jsonl")
        lines = [json.loads(line) for line in (tmp_path / f"{at}.jsonl").read_text().splitlines()]
        files.append([line | {"created": ""} for line in lines[1:]])
    assert files[0] == files[1]
    assert [line["key"] for line in files[0]] == sorted(line["key"] for line in files[0])


def test_more_calls_than_a_page(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as one, Store(tmp_path / "b.sqlite") as other:
        Stored(ScriptedModel(lambda r: "x"), one, chunk=600).chat([ask(str(i)) for i in range(1201)])
        assert export_jsonl(one, tmp_path / "calls.jsonl") == 1201
        assert import_jsonl(other, tmp_path / "calls.jsonl").added == 1201
        assert list(one.by_key()) == list(other.by_key())


def test_the_header_counts(exported: Path) -> None:
    head = json.loads(exported.read_text().splitlines()[0])
    assert head == {"format": "llm4rec calls", "version": 1, "calls": 8, "chat": 4, "score": 4, "transient": 1}


def changed(line: str, **fields: Any) -> str:
    return json.dumps(json.loads(line) | fields)


def reply_of(line: str, **fields: Any) -> str:
    return changed(line, reply=json.loads(line)["reply"] | fields)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda line: line[: len(line) // 2], "not a line of JSON"),
        (lambda line: line.replace('"kind":"', '"kind":"x'), "not a call"),
        (lambda line: "[]", "not a call"),
        (lambda line: "{}", "not a call"),
        (lambda line: changed(line, more=1), "not a call"),
        (lambda line: changed(line, created=3), "not a call"),
        (lambda line: changed(line, model={"model": "gpt"}), "the key does not match the content"),
        (lambda line: changed(line, key="0" * 64), "the key does not match the content"),
        (lambda line: changed(line, request=json.loads(line)["request"] | {"note": 1}), "the key does not match the content"),
        (lambda line: changed(line, transient=not json.loads(line)["transient"]), "the reply is none to this request"),
        (lambda line: reply_of(line, failure="rate_limited"), "the reply is none to this request"),
        (lambda line: reply_of(line, text=None, logprobs=[]), "not a call"),
        (lambda line: reply_of(line, seconds=math.nan), "NaN is not JSON"),
        (lambda line: changed(line, reply="x"), "not a call"),
        (lambda line: '{"a":' * 100_000, "not a call"),
        (lambda line: "\udcff", "not a line of JSON"),
    ],
)
def test_a_line_that_was_changed_is_named(exported: Path, tmp_path: Path, damage: Callable[[str], str], says: str) -> None:
    lines = exported.read_text().splitlines()
    lines[4] = damage(lines[4])
    exported.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n")
    with Store(tmp_path / "new.sqlite") as new:
        with pytest.raises(RunError) as caught:
            import_jsonl(new, exported)
        assert str(caught.value).startswith(f"{exported}, line 5: {says}")
        assert "\n" not in str(caught.value)
        assert list(new) == []  # the lines before it are not in it either


def test_scores_of_another_number_are_none(exported: Path, tmp_path: Path) -> None:
    lines = exported.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"logprobs"' in line)
    lines[at] = reply_of(lines[at], logprobs=[-1.0] * 9, tokens=[1] * 9)
    exported.write_text("\n".join(lines) + "\n")
    with Store(tmp_path / "new.sqlite") as new, pytest.raises(RunError, match=f"line {at + 1}: the reply is none"):
        import_jsonl(new, exported)


def test_a_file_that_is_cut_or_none(exported: Path, tmp_path: Path) -> None:
    lines = exported.read_text().splitlines(keepends=True)
    with Store(tmp_path / "new.sqlite") as new:
        for text, says in [
            ("".join(lines[:-1]), "holds 7 calls, and its first line says 8"),
            ("".join([*lines, lines[-1]]), "line 10: the call stands in the file twice"),
            ("", "the file is empty"),
            ("notes\n", "not a file of exported model calls"),
            (lines[0].replace('"version":1', '"version":2') + "".join(lines[1:]), "written in version 2"),
        ]:
            exported.write_text(text)
            with pytest.raises(RunError, match=says):
                import_jsonl(new, exported)
        with pytest.raises(RunError, match="cannot read the file"):
            import_jsonl(new, tmp_path / "none.jsonl")
        assert list(new) == []


def test_different_answers_are_a_conflict_unless_told_otherwise(exported: Path, tmp_path: Path) -> None:
    request = ScoreRequest((Message("user", "x"),), ("1",))
    model = ScriptedModel(name="other")
    mine = replace(model.score([request])[0], logprobs=np.array([-7.0]))

    class Mine(ScriptedModel):
        def score(self, requests: Any) -> list[ScoreReply]:
            return [mine]

    with Store(tmp_path / "mine.sqlite") as store:
        Stored(Mine(name="other"), store).score([request])
        with pytest.raises(RunError, match=r"line \d: the answer to the call \w{12} differs") as caught:
            import_jsonl(store, exported)
        assert "keep or replace" in str(caught.value)
        assert len(list(store)) == 1
        asks = Stored(model, store, "replay")
        assert import_jsonl(store, exported, on_conflict="keep") == Imported(8, 7, 0, 1)
        assert asks.score([request])[0].logprobs[0] == -7.0
        assert import_jsonl(store, exported, on_conflict="replace") == Imported(8, 0, 1, 7)
        assert asks.score([request])[0].logprobs[0] != -7.0


def test_seconds_are_no_conflict_and_a_lasting_answer_stands_above_a_failure(tmp_path: Path) -> None:
    def made(name: str, reply: ChatReply) -> Store:
        class Says(ScriptedModel):
            def chat(self, requests: Any) -> list[ChatReply]:
                return [reply]

        store = Store(tmp_path / f"{name}.sqlite")
        Stored(Says(), store).chat([ask("p")])
        export_jsonl(store, tmp_path / f"{name}.jsonl")
        return store

    gone = ChatReply("", failure="unreachable")
    with made("a", ChatReply("good", seconds=1.0)) as good, made("b", ChatReply("good", seconds=2.0)), made("c", gone) as bad:
        assert import_jsonl(good, tmp_path / "b.jsonl") == Imported(1, 0, 0, 1)
        for choice in ("error", "replace"):
            assert import_jsonl(good, tmp_path / "c.jsonl", on_conflict=choice) == Imported(1, 0, 0, 1)  # type: ignore[arg-type]
        assert len(good) == 1
        assert import_jsonl(bad, tmp_path / "a.jsonl") == Imported(1, 1, 0, 0)
        assert len(bad) == 1


def test_a_store_that_was_tampered_with_is_not_exported(store: Store, tmp_path: Path) -> None:
    store._db.execute("UPDATE calls SET request = '{}' WHERE kind = 'score'")
    (tmp_path / "calls.jsonl").write_text("old")
    with pytest.raises(RunError, match="does not match its key"):
        export_jsonl(store, tmp_path / "calls.jsonl")
    assert (tmp_path / "calls.jsonl").read_text() == "old"
    assert not list(tmp_path.glob(".exporting-*"))


def test_a_folder_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write the file"):
        export_jsonl(store, tmp_path / "none" / "calls.jsonl")


def test_a_readonly_store_is_exported(store: Store, tmp_path: Path) -> None:
    store.close()
    shutil.copy(store.path, tmp_path / "copy.sqlite")
    with Store(tmp_path / "copy.sqlite", readonly=True) as copy:
        assert export_jsonl(copy, tmp_path / "calls.jsonl") == 8
    store._db = store._open()  # for the fixture, which closes it


KEY = "sk-planted-0123456789abcdef"


def test_no_key_reaches_the_store_or_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    with serve() as (url, state), Store(tmp_path / "llm.sqlite") as store:
        config = LLMConfig(backend="server", model="m", base_url=url, api_key_env="PLANTED_KEY", retries=0)
        model = Stored(ServerModel(config), store)
        # A server that says the key back, in an answer and in an error.
        state.behaviours.append(lambda handler, body: handler.send_json({"error": {"message": f"no: {KEY}"}}, 400))
        replies = model.chat([ask("a"), ask("b"), ask("c")])
        assert any(headers["authorization"] == f"Bearer {KEY}" for headers in state.headers)
        assert {r.failure for r in replies} == {None, "rejected"}
        export_jsonl(store, tmp_path / "calls.jsonl")
        with_log = b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir()))
    alone = b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir()))
    for found in (with_log, alone):
        assert b"hello" in found
        assert KEY.encode() not in found
        assert b"uthorization" not in found
        assert b"Bearer" not in found
