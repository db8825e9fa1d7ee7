"""The server backend on a real wire: good answers, every bad one, and a key that appears nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.core import ModelError
from llm4rec.llm import (
    ChatModel,
    ChatReply,
    ChatRequest,
    LLMConfig,
    Message,
    ScoreRequest,
    Store,
    Stored,
    Usage,
    open_chat_model,
)
from llm4rec.llm.server import ServerModel
from llm4rec.llm.wire import answer, closed, label_logprobs, wait_seconds
from tests.llm.wire_server import Handler, State, completion, cuts, drips, raw, resets, says, serve, sleeps, status

KEY = "sk-secret-0123456789abcdef"
ORDER = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "integer"}}},
    "required": ["order"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def wire() -> Iterator[tuple[str, State]]:
    with serve() as served:
        yield served


def open_at(url: str, **changed: Any) -> ServerModel:
    settings: dict[str, Any] = {
        "backend": "server",
        "model": "m",
        "base_url": url,
        "retries": 2,
        "max_wait": 0.2,
        "timeout": 5.0,
    }
    return ServerModel(LLMConfig(**(settings | changed)))


def ask(text: str = "hi", **changed: Any) -> ChatRequest:
    return ChatRequest((Message("system", "be brief"), Message("user", text)), **changed)


def one(url: str, request: ChatRequest | None = None, **changed: Any) -> ChatReply:
    return open_at(url, **changed).chat([request or ask()])[0]


# -- what is sent and read ----------------------------------------------------------------


def test_request_and_reply(wire: tuple[str, State]) -> None:
    url, state = wire
    reply = one(url, ask(temperature=0.3, max_tokens=17, seed=5))
    assert (reply.text, reply.failure, reply.usage, reply.cached) == ("hello", None, Usage(7, 3), False)
    assert reply.seconds > 0
    assert state.seen == [
        {
            "path": "/v1/chat/completions",
            "model": "m",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "temperature": 0.3,
            "max_tokens": 17,
            "seed": 5,
        }
    ]
    assert state.headers[0]["authorization"] == f"Bearer {KEY}"


def test_schema_is_asked_for_and_checked(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [says('{"order": [2, 1]}')]
    reply = one(url, ask(schema=ORDER))
    assert reply.value == {"order": [2, 1]}
    assert state.seen[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": ORDER, "strict": True},
    }


def test_server_that_ignores_the_schema_is_repaired_once_then_counted(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [says("2 then 1"), says('{"order": [2, 1]}')]
    assert one(url, ask(schema=ORDER)).repaired
    state.seen.clear()
    state.behaviours = [says("2 then 1"), says("really, 2 then 1"), says('{"order": []}')]
    reply = one(url, ask(schema=ORDER))
    assert (reply.failure, reply.value, reply.text, len(state.seen)) == ("unreadable", None, "really, 2 then 1", 2)


def test_fields_that_a_server_refuses(wire: tuple[str, State]) -> None:
    url, state = wire
    changed = {"omit": ("temperature", "seed", "response_format"), "max_tokens_field": "max_completion_tokens"}
    state.default = says('{"order": []}')
    one(url, ask(schema=ORDER), extra={"reasoning_effort": "low"}, **changed)
    body = state.seen[0]
    assert body.keys() == {"path", "model", "messages", "max_completion_tokens", "reasoning_effort"}
    assert '"order"' in body["messages"][-1]["content"]  # the schema, in words


def test_samples_and_seeds_are_told_apart(wire: tuple[str, State]) -> None:
    url, state = wire
    open_at(url).chat([ask(seed=s, sample=k) for s, k in [(0, 0), (1, 0), (0, 1)]])
    assert len({body["seed"] for body in state.seen}) == 3


def test_order_is_kept_and_concurrency_bounded(wire: tuple[str, State]) -> None:
    url, state = wire

    def slow_echo(handler: Handler, body: dict[str, Any]) -> None:
        text = body["messages"][-1]["content"]
        time.sleep(0.02 * (int(text) % 3))
        handler.send_json(completion(text))

    state.default = slow_echo
    replies = open_at(url, concurrency=4).chat([ask(str(i)) for i in range(24)])
    assert [r.text for r in replies] == [str(i) for i in range(24)]
    assert 2 <= state.most_at_once <= 4


def test_within_a_running_loop_and_again_after_it(wire: tuple[str, State]) -> None:
    url, _ = wire
    model = open_at(url)

    async def inside() -> list[ChatReply]:
        return model.chat([ask(), ask()])

    assert [r.text for r in asyncio.run(inside())] == ["hello", "hello"]
    assert model.chat([ask()])[0].text == "hello"
    assert model.chat([]) == []
    assert isinstance(model, ChatModel)


# -- answers that are none ----------------------------------------------------------------


def calls(*names: str) -> dict[str, Any]:
    """Return an answer's choice that calls tools."""
    called = [{"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": "{}"}} for i, n in enumerate(names)]
    message = {"role": "assistant", "content": None, "tool_calls": called}
    return {"choice": {"message": message, "finish_reason": "tool_calls"}}


@pytest.mark.parametrize(
    ("behaviour", "failure", "detail"),
    [
        (says(""), "empty", "no text"),
        (says(None), "empty", "no text"),
        (says("half an ans", choice={"finish_reason": "length"}), "truncated", "max_tokens"),
        (says(None, choice={"message": {"content": None, "refusal": "I will not"}}), "refused", "I will not"),
        (says("", choice={"finish_reason": "content_filter"}), "refused", "content filter"),
        (says("x", choices=[]), "empty", "without choices"),
        (says(None, **calls("search")), "tool_call", "1 tool called"),
        (says("x", **calls("search", "search")), "tool_call", "2 tools called"),
        (says(None, choice={"message": {"content": None, "function_call": {"name": "f"}}}), "tool_call", "1 tool called"),
        (says("x", choices=None), "garbage", "no answer of the protocol"),
        (says("x", choices=["?"]), "garbage", "without a message"),
        (says("x", choice={"message": "x"}), "garbage", "without a message"),
        (raw(b'{"choices": [{"message"'), "garbage", "not JSON"),
        (raw(b""), "garbage", "not JSON"),
        (raw(b"\xff\xfe\x00garbage"), "garbage", "not JSON"),
        (raw(b"[1, 2]"), "garbage", "no answer of the protocol"),
        (raw(b"[" * 200_000), "garbage", "not JSON"),
        (raw(b'data: {"choices": []}\n\ndata: [DONE]\n', kind="text/event-stream"), "garbage", "not JSON"),
        (raw(b'{"error": {"message": "upstream is down", "code": 502}}'), "server_error", "upstream is down"),
        (raw(b'{"error": {"message": "slow down", "code": 429}}'), "rate_limited", "slow down"),
        (raw(b"<html>Sign in to the wireless network</html>", kind="text/html"), "garbage", "Sign in"),
        (raw(b"<html>Bad gateway</html>", 502, "text/html"), "server_error", "502"),
        (status(400), "rejected", "status 400"),
        (status(400, {"error": "context length exceeded"}), "rejected", "context length"),
        (status(422, {"detail": "?"}), "rejected", "422"),
        (status(429), "rate_limited", "status 429"),
        (status(500), "server_error", "status 500"),
        (status(503, "down"), "server_error", "503"),
        (cuts, "unreachable", ""),
        (resets, "unreachable", ""),
    ],
)
def test_failures_by_kind(wire: tuple[str, State], behaviour: Any, failure: str, detail: str) -> None:
    url, state = wire
    state.default = behaviour
    reply = one(url, retries=1, max_wait=0.05)
    assert reply.failure == failure
    assert detail in reply.detail
    assert "\n" not in reply.detail
    assert reply.value is None
    assert len(state.seen) == (2 if failure in ("rate_limited", "server_error", "unreachable") else 1)


@pytest.mark.parametrize("behaviour", [drips, sleeps])
def test_time_out_is_of_the_whole_answer(wire: tuple[str, State], behaviour: Any) -> None:
    url, state = wire
    state.default = behaviour
    began = time.monotonic()
    reply = one(url, timeout=0.4, retries=0)
    assert time.monotonic() - began < 4
    assert reply.failure == "unreachable"


def test_usage_of_any_shape(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [says(usage=None), says(usage={"prompt_tokens": "7"}), says(usage={"prompt_tokens": 7})]
    usages = [r.usage for r in open_at(url, concurrency=1).chat([ask(), ask("b"), ask("c")])]
    assert usages == [Usage(None, None), Usage(None, None), Usage(7, None)]


def test_no_tool_calls_are_none(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = says(None, choice={"message": {"content": "fine", "tool_calls": []}, "finish_reason": "tool_calls"})
    assert (one(url).text, one(url).failure) == ("fine", None)


def test_a_tool_call_instead_of_the_schema_is_repaired_once(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [says(None, **calls("rank", "rank")), says('{"order": [1]}')]
    reply = one(url, ask(schema=ORDER))
    assert (reply.value, reply.repaired, reply.usage) == ({"order": [1]}, True, Usage(14, 6))
    assert "2 tools called, and there is none" in state.seen[1]["messages"][-1]["content"]


def test_a_long_schema_is_repeated_whole_in_the_repair(wire: tuple[str, State]) -> None:
    url, state = wire
    long = {**ORDER, "description": "x" * 6000}
    state.behaviours = [says("no"), says('{"order": [1]}')]
    assert one(url, ask(schema=long)).repaired
    assert json.dumps(long) in state.seen[1]["messages"][-1]["content"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html; charset=latin-1"])
def test_a_wrong_content_type_does_not_matter_where_the_body_is_right(wire: tuple[str, State], kind: str) -> None:
    url, state = wire
    state.default = raw(json.dumps(completion("füchsin 🦊"), ensure_ascii=False).encode(), kind=kind)
    assert one(url).text == "füchsin 🦊"


def test_a_storm_of_500_passes(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [status(500), status(502), status(503, retry_after="0.05"), cuts] * 3
    replies = open_at(url, retries=8, concurrency=4, max_wait=0.1, breaker=50).chat([ask(str(i)) for i in range(12)])
    assert [r.failure for r in replies] == [None] * 12
    assert len(state.seen) == 24


def test_a_redirect_is_followed_and_a_circle_of_them_is_no_answer(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [lambda handler, _: handler.send_raw(b"", 307, location=f"{url}/elsewhere")]
    assert one(url).text == "hello"
    assert state.seen[1]["path"] == "/v1/elsewhere"
    state.default = lambda handler, _: handler.send_raw(b"", 307, location=f"{url}/chat/completions")
    assert one(url).failure == "garbage"


def test_content_in_parts(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = says(None, choice={"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}})
    assert one(url).text == "ab"


# -- retries ------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [status(429), status(500), status(503), status(408), cuts, resets])
def test_what_passes_is_asked_again(wire: tuple[str, State], behaviour: Any) -> None:
    url, state = wire
    state.behaviours = [behaviour, behaviour]
    assert one(url).text == "hello"
    assert len(state.seen) == 3


def test_retries_are_bounded(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = status(429)
    assert one(url, retries=3, max_wait=0.02).failure == "rate_limited"
    assert len(state.seen) == 4


@pytest.mark.parametrize("headers", [{"retry_after": "0.7"}, {"retry_after_ms": "700"}])
def test_retry_after_is_honoured(wire: tuple[str, State], headers: dict[str, str]) -> None:
    url, state = wire
    state.behaviours = [status(429, **headers)]
    assert one(url, max_wait=5.0).text == "hello"
    assert state.times[1] - state.times[0] >= 0.69


def test_a_wait_beyond_the_bound_ends_the_retries(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = status(429, retry_after="3600")
    began = time.monotonic()
    assert one(url, max_wait=1.0).failure == "rate_limited"
    assert time.monotonic() - began < 30
    assert len(state.seen) == 1


def test_storm_of_429(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [status(429, retry_after="0.05")] * 20
    # Who meets them is chance: with one slot left it may be the same request each time, and each a round
    # of its own: more retries and more patience than there are refusals.
    replies = open_at(url, retries=20, breaker=50, concurrency=4).chat([ask(str(i)) for i in range(12)])
    assert [r.failure for r in replies] == [None] * 12
    assert len(state.seen) == 32


def test_wait_times_of_any_form() -> None:
    assert wait_seconds("1.5") == 1.5
    assert wait_seconds("1500", 1e-3) == 1.5
    assert 8 < (wait_seconds(formatdate(time.time() + 10, usegmt=True)) or 0) <= 10
    assert wait_seconds(formatdate(time.time() - 10, usegmt=True)) == 0
    assert [wait_seconds(x) for x in (None, "", "soon", "nan")] == [None] * 4
    assert wait_seconds("-3") == 0


# -- set-up -------------------------------------------------------------------------------


def test_no_server_is_an_error_that_asks_for_it() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
    began = time.monotonic()
    with pytest.raises(ModelError, match="is the server running") as caught:
        open_at(url, retries=8, max_wait=60).chat([ask(str(i)) for i in range(20)])
    assert time.monotonic() - began < 5
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_server_that_vanishes_later_gives_counted_failures() -> None:
    with serve() as (url, state):
        model = open_at(url, retries=1, max_wait=0.05)
        state.default = says("there")
        assert model.chat([ask()])[0].text == "there"
    replies = model.chat([ask("a"), ask("b")])
    assert [r.failure for r in replies] == ["unreachable", "unreachable"]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (status(404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}), "no model 'm' here"),
        (status(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}), "no credit left"),
        (
            status(400, {"error": {"message": "Unsupported parameter: 'max_tokens'", "code": "unsupported_parameter"}}),
            "name it in omit",
        ),
    ],
)
def test_what_no_later_call_can_cure_is_an_error(wire: tuple[str, State], behaviour: Any, message: str) -> None:
    url, state = wire
    state.default = behaviour
    with pytest.raises(ModelError, match=message) as caught:
        open_at(url, concurrency=1).chat([ask(str(i)) for i in range(5)])
    assert "\n" not in str(caught.value)
    assert len(state.seen) == 1


def test_missing_key(wire: tuple[str, State], monkeypatch: pytest.MonkeyPatch) -> None:
    url, state = wire
    monkeypatch.delenv("OPENAI_API_KEY")
    assert one(url).text == "hello"  # most servers of one's own want none
    with pytest.raises(ModelError, match="export OPENAI_API_KEY"):
        open_at("https://api.openai.com/v1").chat([ask()])  # asked of nobody: no network is touched
    state.default = status(401)
    with pytest.raises(ModelError, match="wants a key"):
        one(url, api_key_env="OTHER_KEY")


def _everything(error: BaseException) -> str:
    """Return all that an exception drags along: chain, local values of the package's frames, attributes."""
    texts: list[str] = []
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        frames = traceback.TracebackException.from_exception(current, capture_locals=True)
        here = [f for f in frames.stack if "llm4rec" in f.filename and f.filename != __file__]
        assert here  # of the test's own frames alone nothing could be learnt
        texts += [repr(current), str(vars(current)), str([(f.line, f.locals) for f in here])]
        request = getattr(current, "request", None) or getattr(getattr(current, "response", None), "request", None)
        texts.append(str(getattr(request, "headers", "")))
        todo += [current.__cause__, current.__context__]
    return "\n".join(texts)


@pytest.mark.parametrize("code", [401, 403, 400, 404, 429, 500, 200])
def test_the_key_appears_nowhere(
    wire: tuple[str, State], tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    url, state = wire
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": f"bad_{KEY}"}}
    state.default = (
        status(code, echo) if code != 200 else says(f"your key is {KEY}", choice={"message": {"refusal": f"no, {KEY}"}})
    )
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai").setLevel(logging.DEBUG)
    model = open_at(url, retries=1, max_wait=0.02)
    found = [repr(model), str(vars(model)), str(model.identity)]
    with Store(tmp_path / "llm.sqlite") as store:
        try:
            replies = Stored(model, store).chat([ask()])
            found += [reply.detail for reply in replies]
            assert code not in (401, 403, 404)
        except ModelError as error:
            found.append(_everything(error))
            assert code in (401, 403, 404)
    assert state.headers[0]["authorization"].endswith(KEY)  # it was sent, and only there:
    if code != 200:  # an answer's own words are kept as they came
        found += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    out, err = capfd.readouterr()
    found += [out, err, caplog.text, *(str(vars(r)) for r in caplog.records)]
    assert not [text for text in found if KEY in text]


@pytest.mark.parametrize("body", [f'{{"error": "no such key: {KEY}"}}', f"{KEY} is wrong"])
def test_an_error_told_with_http_200_does_not_repeat_the_key(wire: tuple[str, State], body: str) -> None:
    url, state = wire
    state.default = raw(body.encode())
    detail = one(url, retries=0).detail
    assert "[key]" in detail
    assert KEY not in detail


# -- scores -------------------------------------------------------------------------------


def top(*pairs: tuple[str, float]) -> dict[str, Any]:
    listed = [{"token": t, "logprob": v, "bytes": None} for t, v in pairs]
    return {"choice": {"logprobs": {"content": [{**listed[0], "top_logprobs": listed}]}}}


LABELS = ScoreRequest((Message("user", "A or B?"),), ("A", "B", "C"))


def test_labels_from_the_top_log_probabilities(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = says("A", **top(("A", -0.5), (" B", -1.5), ("C", -3.0), ("The", -4.0), (" A", -5.0)))
    reply = open_at(url, top_logprobs=5).score([LABELS])[0]
    np.testing.assert_allclose(reply.logprobs, [np.logaddexp(-0.5, -5.0), -1.5, -3.0])
    assert (reply.failure, reply.tokens.tolist(), reply.usage) == (None, [1, 1, 1], Usage(7, 3))
    body = state.seen[0]
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"], body["temperature"]) == (True, 5, 1, 0)


@pytest.mark.parametrize(
    "behaviour", [says("A", **top(("A", -0.5), ("B", -1.0))), says("A"), says("A", choice={"logprobs": {"content": []}})]
)
def test_missing_label_is_nan_and_counted(wire: tuple[str, State], behaviour: Any) -> None:
    url, state = wire
    state.default = behaviour
    reply = open_at(url).score([LABELS])[0]
    assert np.isnan(reply.logprobs[2])
    assert reply.failure == "missing_logprob"


def test_label_that_begins_another_one_is_not_guessed() -> None:
    body = completion("1", **top(("1", -0.1), ("2", -2.0)))
    assert np.isnan(label_logprobs(body, ["1", "2", "12"])[0]).tolist() == [True, False, True]
    body = completion("1", **top(("1", -0.1), ("2", -2.0), ("12", -3.0)))
    assert label_logprobs(body, ["1", "2", "12"])[0].tolist() == [-0.1, -2.0, -3.0]


def test_failed_score_is_a_reply(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = status(500)
    reply = open_at(url, retries=0).score([LABELS])[0]
    assert reply.failure == "server_error"
    assert np.isnan(reply.logprobs).all()


def _echo(handler: Handler, body: dict[str, Any]) -> None:
    """Tokens are words with their leading space; a token's log-probability is minus its length."""
    choices = []
    for i, text in enumerate(body["prompt"]):
        words = text.split(" ")
        tokens = [words[0]] + [f" {w}" for w in words[1:]]
        tokens.append(" generated")
        values: list[float | None] = [None] + [-float(len(t)) for t in tokens[1:]]
        choices.append({"index": i, "text": text, "logprobs": {"tokens": tokens, "token_logprobs": values}})
    handler.send_json({"choices": choices[::-1], "usage": {"prompt_tokens": 30, "completion_tokens": 4}})


def test_likelihood_by_echo(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = _echo
    reply = open_at(url).score([ScoreRequest("I watched", (" Heat", " Toy Story", "ever"))])[0]
    np.testing.assert_array_equal(reply.logprobs, [-5.0, -10.0, np.nan])  # "watchedever" is a token across the border
    assert reply.tokens.tolist() == [1, 2, 0]
    assert reply.failure == "missing_logprob"
    assert state.seen[0]["path"] == "/v1/completions"
    assert (state.seen[0]["echo"], state.seen[0]["max_tokens"]) == (True, 1)


def test_server_that_does_not_echo(wire: tuple[str, State]) -> None:
    url, state = wire
    request = ScoreRequest("I watched", (" Heat",))
    state.default = lambda handler, _: handler.send_json({"choices": [{"index": 0, "text": " more"}]})
    assert open_at(url).score([request])[0].failure == "missing_logprob"
    state.default = status(404)
    reply = open_at(url).score([request])[0]
    assert (reply.failure, "score messages" in reply.detail) == ("missing_logprob", True)
    state.default = status(404, {"message": "The model `m` does not exist.", "code": 404})
    with pytest.raises(ModelError, match="no model 'm' here"):
        open_at(url).score([request])


# -- the rest -----------------------------------------------------------------------------


def test_identity_names_all_that_shapes_an_answer() -> None:
    base = open_at("http://a/v1").identity
    others = [{"model": "n"}, {"omit": ("seed",)}, {"extra": {"top_k": 1}}, {"base_url": "http://b/v1"}]
    assert all(open_at(**({"url": "http://a/v1"} | o)).identity != base if "base_url" not in o else True for o in others)
    assert open_at("http://b/v1").identity != base
    assert open_at("http://a/v1", api_key_env="X", concurrency=2, timeout=1).identity == base


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (ORDER, True),
        ({**ORDER, "required": []}, False),
        ({"type": "object", "properties": {}}, False),
        ({"type": "array", "items": ORDER}, True),
        ({"type": "array", "items": {**ORDER, "additionalProperties": True}}, False),
        ({**ORDER, "properties": {"order": {"type": "object", "properties": {"a": {}}}}}, False),
    ],
)
def test_only_closed_schemas_are_held_strictly(schema: dict[str, Any], strict: bool) -> None:
    assert closed(schema) is strict


def test_stored_run_replays_without_server_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as (url, _):
        config = LLMConfig(backend="server", model="m", base_url=url)
        with Store(tmp_path / "llm.sqlite") as store:
            first = Stored(open_chat_model(config), store).chat([ask()])[0]
    monkeypatch.delenv("OPENAI_API_KEY")
    with Store(tmp_path / "llm.sqlite", readonly=True) as store:
        again = Stored(open_chat_model(config), store, "replay").chat([ask()])[0]
    assert (again.text, again.cached) == (first.text, True)


def test_half_a_character_in_an_answer_can_be_written_to_a_file() -> None:
    body = {"choices": [{"message": {"content": "\ud83e fine \U0001f98a"}}]}
    assert answer(body)[0] == "? fine \U0001f98a"


@pytest.mark.parametrize("key", ["sk-very\nsecret", "sk very", "sk-🦊"])
def test_a_key_that_no_header_can_carry_is_told_before_anything_is_asked(
    wire: tuple[str, State], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    url, state = wire
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ModelError, match="OPENAI_API_KEY holds") as caught:
        one(url, api_key_env="OPENAI_API_KEY")
    assert key not in str(caught.value)
    assert not state.seen
