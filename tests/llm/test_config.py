"""The ``[llm.NAME]`` table: what it refuses, what it opens, and that a misplaced key is not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llm4rec.core import ModelError
from llm4rec.llm import ChatRequest, LLMConfig, Message, Store, Stored, open_chat_model

KEY = "sk-do-not-show-me-0123456789"


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "remote"},
        {"api_key": KEY},
        {"api_key_env": KEY},
        {"api_key_env": "gsk_lowercase0123456789"},
        {"base_url": f"https://user:{KEY}@host/v1"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"base_url": "host/v1"},
        {"temperature": -1},
        {"max_tokens": 0},
        {"concurrency": 0},
        {"timeout": 0},
        {"retries": -1},
        {"price_in": 1},
        {"model": ""},
        {"omit": ["messages"]},
    ],
)
def test_nonsense_is_refused_and_no_key_repeated(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        LLMConfig(**wrong)  # type: ignore[arg-type]
    assert KEY not in str(caught.value)
    assert "gsk_" not in str(caught.value)


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in LLMConfig.model_fields.values())


def test_scripted_answers_in_turn() -> None:
    model = open_chat_model(LLMConfig(backend="scripted", model="demo", answers=("a", "b")))
    assert model.name == "scripted-demo"
    assert [r.text for r in model.chat([ChatRequest((Message("user", "?"),))] * 3)] == ["a", "b", "a"]


def test_what_the_spec_fixes_reaches_the_model_and_its_identity() -> None:
    free = open_chat_model(LLMConfig(backend="scripted", answers=("a",)))
    fixed = open_chat_model(LLMConfig(backend="scripted", answers=("a",), temperature=0.5, max_tokens=7))
    fixed.chat([ChatRequest((Message("user", "?"),), max_tokens=300)])
    asked = fixed.model.asked[0]  # type: ignore[attr-defined]
    assert (asked.temperature, asked.max_tokens) == (0.5, 7)
    assert fixed.identity == {**free.identity, "fixed": {"temperature": 0.5, "max_tokens": 7}}


def test_missing_model_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        open_chat_model(LLMConfig(model=str(tmp_path / "none.gguf")), cache=tmp_path)
    with pytest.raises(ModelError, match="nor a GGUF file"):
        open_chat_model(LLMConfig(), source=tmp_path, cache=tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="a folder to be converted into"):
        open_chat_model(LLMConfig(), source=tmp_path)
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="2 GGUF files"):
        open_chat_model(LLMConfig(), source=tmp_path, cache=tmp_path)


def test_damaged_model_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.gguf").write_bytes(b"GGUF, but not really")
    model = open_chat_model(LLMConfig(), source=tmp_path / "m", cache=tmp_path / "cache")
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        model.chat([ChatRequest((Message("user", "?"),))])
    assert "\n" not in str(caught.value)
    assert not any(p for p in (tmp_path / "cache").glob("*") if p.name != ".locks")


def test_with_known_weights_a_replay_needs_no_file(tmp_path: Path) -> None:
    model = open_chat_model(LLMConfig(), source=tmp_path / "gone.gguf", cache=tmp_path, weights="0" * 64)
    assert model.identity == {"backend": "local", "model": "smollm2-135m-instruct", "weights": "0" * 64, "dtype": "auto"}
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(ModelError, match="not in the store"):
            Stored(model, store, "replay").chat([ChatRequest((Message("user", "?"),))])
        with pytest.raises(ModelError, match="no such model file"):
            Stored(model, store).chat([ChatRequest((Message("user", "?"),))])


@pytest.mark.parametrize("name", ["messages", "prompt", "model", "stream", "api_key", "Authorization"])
def test_extra_neither_asks_something_else_nor_holds_a_key(name: str) -> None:
    with pytest.raises(ValidationError, match="must not hold") as caught:
        LLMConfig(backend="server", extra={name: "sk-verysecret"})
    assert "sk-verysecret" not in str(caught.value)
