"""Where knowledge comes from: files, dumps, services that misbehave, functions."""

from __future__ import annotations

import bz2
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from pydantic import ValidationError

from llm4rec.core import DataError
from llm4rec.prompted.memory.encyclopedia import Dump, DumpConfig, MediaWiki, MediaWikiConfig, open_source, shortened
from llm4rec.prompted.memory.facts import Fact
from llm4rec.prompted.memory.sources import FunctionSource, HTTPConfig, HTTPSource, Item, JSONLConfig, JSONLSource
from llm4rec.prompted.memory.titles import Title
from llm4rec.prompted.memory.web import Web, at_path
from llm4rec.prompted.memory.wikitext import categories, is_disambiguation, lead


def item(id_: str, title: str, year: int | None = None, **row: Any) -> Item:
    return Item(id_, Title.of(title, year), {"title": title, "year": year, **row})


HEAT, HEAT86, ALIEN, ALIENS = (
    item("1", "Heat", 1995),
    item("2", "Heat", 1986),
    item("3", "Alien", 1979),
    item("4", "Aliens", 1986),
)
LA, UP, TWICE, NOBODY = (
    item("5", "Avventura, L'", 1960),
    item("6", "Up", 2009),
    item("7", "Heat", 1995),
    Item("8", None, {"title": None, "year": None}),
)
ITEMS = (HEAT, HEAT86, ALIEN, ALIENS, LA, UP, NOBODY)


# -- a file -------------------------------------------------------------------------------
def jsonl(path: Path, *lines: Any, **config: Any) -> JSONLSource:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return JSONLSource(JSONLConfig(path=path, **config))


def test_a_file_names_items_by_id_or_title(tmp_path: Path) -> None:
    found = jsonl(
        tmp_path / "facts.jsonl",
        {"item": "3", "text": "Space.", "time": "1979-05-25", "url": "http://x.test/a"},
        {"title": "L’Avventura", "text": "An island.", "kind": "attribute", "attribute": "mood"},
        {"title": "Heat", "year": 1986, "text": "Las Vegas."},
        {"title": "Alie", "text": "no"},
        {"title": "Heat", "text": "which?"},
        {"item": "99", "text": "no"},
    ).find([*ITEMS, TWICE])
    assert [(f.of, f.text, f.kind, f.attribute, f.time, f.source) for f in found.facts] == [
        ("3", "Space.", "knowledge", None, 296438400, "facts.jsonl"),
        ("5", "An island.", "attribute", "mood", None, "facts.jsonl"),
        ("2", "Las Vegas.", "knowledge", None, None, "facts.jsonl"),
    ]
    assert found.facts[0].evidence[0].url == "http://x.test/a"
    assert found.missed == {"unmatched": 2, "ambiguous": 1}


def test_a_film_that_the_catalogue_lists_twice_gets_its_facts_twice(tmp_path: Path) -> None:
    found = jsonl(tmp_path / "f", {"title": "Heat", "year": 1995, "text": "Two men."}).find([HEAT, HEAT86, TWICE])
    assert [f.of for f in found.facts] == ["1", "7"]


def test_timeless_vouches_for_a_file(tmp_path: Path) -> None:
    found = jsonl(tmp_path / "f", {"item": "3", "text": "Space.", "time": 5}, timeless=True, name="plots").find(ITEMS)
    assert (found.facts[0].time, found.facts[0].source) == (None, "plots")


@pytest.mark.parametrize(
    ("line", "what"),
    [("{", "not JSON"), ({"text": "x"}, "names no item"), ({"item": "3"}, "'text' must be a text"),
     ({"item": "3", "text": "x", "date": 5}, "unknown field 'date'"), ({"item": "3", "text": "x", "time": "soon"}, "ISO 8601"),
     ({"item": ["3"], "text": "x"}, "list"), ({"item": "3", "text": "x", "kind": "rumour"}, "'kind' must be")],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: Any, what: str) -> None:
    with pytest.raises(DataError, match=what) as error:
        jsonl(tmp_path / "f", {"item": "3", "text": "fine"}, line).find(ITEMS)
    assert "line 2" in str(error.value)


# -- wikitext -----------------------------------------------------------------------------
WIKI = """{{Short description|1995 film by [[Michael Mann]]}}
{{Infobox film
| name = Heat
| image = {{x|[[File:no.jpg]]}}
}}
[[File:Heat.jpg|thumb|A [[poster]] of it]]<!-- {{ never read -->
'''''Heat''''' is a [[Cinema of the United States|1995 American]] [[crime film]]{{efn|note}}<ref name="a">gone</ref><ref />
written by [https://x.test Michael Mann]. It stars [[Al Pacino]] &amp; [[Robert De Niro|De Niro]].

{| class="wikitable"
| gone
|}
* gone
== Plot ==
Never shown.
[[Category:1995 films]] [[category: Heist films|Heat]]
"""


def test_the_lead_in_plain_words() -> None:
    assert lead(WIKI) == ("Heat is a 1995 American crime film written by Michael Mann. It stars Al Pacino & De Niro.")
    assert categories(WIKI) == ["1995 films", "Heist films"]


@pytest.mark.parametrize(
    "broken", ["{{never closed", "[[File:x|never closed", "a ]] b }} c", "<ref>open", "", "'''", "{|", "[[a|[[b|c]]"]
)
def test_broken_wikitext_is_no_error(broken: str) -> None:
    assert "{{" not in lead(f"Good. {broken}")


def test_disambiguation() -> None:
    assert is_disambiguation("'''Heat''' may refer to:\n* [[x]]\n{{Disambiguation|film}}")
    assert is_disambiguation("{{disambig}}")
    assert not is_disambiguation("{{distinguish|heat}}")


def test_shortened_between_sentences() -> None:
    assert shortened("One two. Three four. Five six.", 22) == "One two. Three four."
    assert shortened("One two three four five", 12) == "One two…"
    assert shortened("x" * 50, 10) == "x" * 10
    assert shortened(" a  b ", 10) == "a b"


# -- dumps --------------------------------------------------------------------------------
def page(title: str, text: str, *, redirect: str = "", ns: int = 0, times: Sequence[str] = ("2020-01-01T00:00:00Z",)) -> str:
    moved = f'<redirect title="{redirect}" />' if redirect else ""
    revisions = "".join(
        f"<revision><timestamp>{t}</timestamp><text>{text if i == len(times) - 1 else f'Old 1995 film {i}.'}</text></revision>"
        for i, t in enumerate(times)
    )
    return f"<page><title>{title}</title><ns>{ns}</ns>{moved}{revisions}</page>"


def dump(path: Path, *pages: str, **config: Any) -> Dump:
    xml = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo>'
        "<base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>" + "".join(pages) + "</mediawiki>"
    )
    path.write_bytes(bz2.compress(xml.encode()) if path.suffix == ".bz2" else xml.encode())
    return Dump(DumpConfig(path=path, **config))


@pytest.mark.parametrize("name", ["pages.xml", "pages.xml.bz2"])
def test_pages_by_year_then_kind_then_alone(tmp_path: Path, name: str) -> None:
    found = dump(
        tmp_path / name,
        page("Heat", "Heat is energy, measured since 1995."),
        page("Heat (film)", "Heat is a 1972 film."),
        page("Heat (1995 film)", "Heat is about two men."),
        page("Heat (1986 film)", "Heat is set in Las Vegas."),
        page("Alien", "Alien is a 1979 film."),
        page("Alien (film)", "Alien is a 1979 science fiction film. [[Category:1979 films]]"),
        page("Aliens", "Aliens is a song of 1986."),
        page("L'Avventura", "L'Avventura is a 1960 Italian film."),
        page("Supernatural", "A 2009 film called Up."),
        page("Talk:Up", "A 2009 film.", ns=1),
    ).find(ITEMS)
    assert {f.of: f.text for f in found.facts} == {
        "1": "Heat is about two men.",
        "2": "Heat is set in Las Vegas.",
        "3": "Alien is a 1979 science fiction film.",
        "5": "L'Avventura is a 1960 Italian film.",
    }
    assert found.missed == {"unmatched": 3}, "Aliens (a song), Up (nothing), the item without title"
    first = found.facts[0]
    assert (first.source, first.time) == (name, 1577836800)
    assert first.evidence[0].url == "https://en.wikipedia.org/wiki/Heat_%281995_film%29"


def test_redirects_forwards_and_backwards(tmp_path: Path) -> None:
    found = dump(
        tmp_path / "p.xml",
        page("Alien (franchise opener)", "Alien is a film of the year 1979."),
        page("Alien (1979 film)", "", redirect="Alien (franchise opener)"),
        page("Up (2009 film)", "", redirect="Up (Pixar)"),
        page("Up (Pixar)", "Up is about an old man."),
        page("Aliens (1986 film)", "", redirect="Nowhere"),
    ).find(ITEMS)
    assert {f.of: f.text for f in found.facts} == {"3": "Alien is a film of the year 1979.", "6": "Up is about an old man."}


def test_a_list_of_pages_is_no_page_and_two_pages_are_ambiguous(tmp_path: Path) -> None:
    found = dump(
        tmp_path / "p.xml",
        page("Heat (1995 film)", "'''Heat''' may refer to: {{disambiguation}}"),
        page("Alien (film)", "A 1979 film."),
        page("Alien (movie)", "A 1979 film too."),
    ).find([HEAT, ALIEN])
    assert found.facts == ()
    assert found.missed == {"unmatched": 1, "ambiguous": 1}


def test_a_page_as_it_was(tmp_path: Path) -> None:
    heat = page("Heat (1995 film)", "New.", times=["2001-01-01T00:00:00Z", "2005-01-01T00:00:00Z", "2020-01-01T00:00:00Z"])
    now = dump(tmp_path / "p.xml", heat).find([HEAT]).facts[0]
    then = dump(tmp_path / "p.xml", heat, before="2006-01-01").find([HEAT]).facts[0]
    assert (now.text, now.time) == ("New.", 1577836800)
    assert (then.text, then.time) == ("Old 1995 film 1.", 1104537600)
    assert dump(tmp_path / "p.xml", heat, before="1999-01-01").find([HEAT]).facts == ()


def test_other_things_than_films(tmp_path: Path) -> None:
    pages = (page("Heat", "Heat is energy."), page("Up (album)", "Up is an album of 2009."))
    found = dump(tmp_path / "p.xml", *pages, nouns=("album",)).find([item("6", "Up", 2009)])
    assert [f.text for f in found.facts] == ["Up is an album of 2009."]
    anything = dump(tmp_path / "p.xml", *pages, nouns=()).find([item("1", "Heat")])
    assert [f.text for f in anything.facts] == ["Heat is energy."]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [("none.xml", None, "cannot be read"), ("cut.xml", b"<mediawiki><page><title>He", "cannot be read as a MediaWiki dump"),
     ("bad.bz2", b"not compressed", "cannot be read"), ("other.xml", b"<rss></rss>", "holds no page"),
     ("cut.bz2", bz2.compress(b"<mediawiki>" * 999)[:-9], "cannot be read")],
)  # fmt: skip
def test_a_file_that_is_no_dump(tmp_path: Path, name: str, data: bytes | None, what: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=what) as error:
        Dump(DumpConfig(path=tmp_path / name)).find(ITEMS)
    assert name in str(error.value)


def test_a_dump_is_read_as_a_stream(tmp_path: Path) -> None:
    import tracemalloc

    pages = [page(f"Page {i}", "word " * 2_000) for i in range(1_000)]  # 10 MB
    source = dump(tmp_path / "p.xml", *pages, page("Heat (1995 film)", "Here."))
    del pages
    tracemalloc.start()
    found = source.find(ITEMS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [f.text for f in found.facts] == ["Here."]
    assert peak < 3e6


# -- the web ------------------------------------------------------------------------------
Answer = Callable[["Wiki"], None]


class Wiki(BaseHTTPRequestHandler):
    """A server that hands each request to the next behaviour, or to the default one."""

    server: Any

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), time.monotonic()))
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else self.server.default
        try:
            behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Any]:
    """A server on loopback with ``behaviours``, ``default`` and ``seen``."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Wiki)
    server.behaviours, server.seen, server.default = [], [], lambda h: h.send({"text": "hello"})
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def web(tmp_path: Path, **changed: Any) -> Web:
    return Web(**({"cache": tmp_path / "pages", "per_second": 1e6, "retries": 0, "sleep": lambda _: None} | changed))


def test_a_page_is_fetched_once_and_says_who_asks(server: Any, tmp_path: Path) -> None:
    url = f"{server.url}/a?b=c"
    assert web(tmp_path, user_agent="tests/1").get(url).value == {"text": "hello"}
    assert web(tmp_path).get(url).value == {"text": "hello"}
    assert len(server.seen) == 1
    assert server.seen[0][1]["User-Agent"] == "tests/1"
    (kept,) = (tmp_path / "pages").glob("*.json")
    assert json.loads(kept.read_text())["url"] == url
    kept.write_text('{"half')
    assert web(tmp_path).get(url).value == {"text": "hello"}
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (lambda h: h.send({}, 404), "refused"),
        (lambda h: h.send({}, 302, location="http://127.0.0.1:9/elsewhere"), "refused"),
        (lambda h: h.send({}, 503), "unavailable"),
        (lambda h: h.send({}, 429), "unavailable"),
        (lambda h: h.send(b"<html>"), "garbage"),
        (lambda h: h.send(b"x" * (8 * 2**20 + 1)), "garbage"),
        (lambda h: h.send(b'{"cut', content_length="999"), "garbage"),
        (lambda h: h.connection.close(), "unreachable"),
    ],
)
def test_failures_by_kind_are_not_kept(server: Any, tmp_path: Path, behaviour: Answer, failure: str) -> None:
    server.behaviours = [behaviour]
    client = web(tmp_path)
    assert client.get(f"{server.url}/a").failure == failure
    assert client.get(f"{server.url}/a").value == {"text": "hello"}


def test_a_page_that_drips_is_given_up(server: Any, tmp_path: Path) -> None:
    def drip(handler: Wiki) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    server.behaviours = [drip]
    began = time.monotonic()
    assert web(tmp_path, timeout=0.3).get(f"{server.url}/a").failure == "timeout"
    assert time.monotonic() - began < 3


def test_a_server_that_says_nothing_is_given_up(server: Any, tmp_path: Path) -> None:
    server.behaviours = [lambda h: time.sleep(1)]
    assert web(tmp_path, timeout=0.2).get(f"{server.url}/a").failure == "timeout"


def test_it_asks_again_and_waits_as_it_is_told(server: Any, tmp_path: Path) -> None:
    slept: list[float] = []
    server.behaviours = [lambda h: h.send({}, 429, retry_after="7"), lambda h: h.send({}, 500)]
    assert web(tmp_path, retries=2, sleep=slept.append).get(f"{server.url}/a").value == {"text": "hello"}
    assert slept == [7.0, 1.0]
    server.behaviours = [lambda h: h.send({}, 429, retry_after="9999")]
    web(tmp_path, retries=1, sleep=slept.append).get(f"{server.url}/b")
    assert slept[-1] == 30.0


def test_a_gone_server_is_not_asked_for_ever(tmp_path: Path, server: Any) -> None:
    server.default = lambda h: h.send({}, 503)
    client = web(tmp_path)
    failures = [client.get(f"{server.url}/{i}").failure for i in range(9)]
    assert failures == ["unavailable"] * 5 + ["unreachable"] * 4
    assert len(server.seen) == 5


def test_politeness(server: Any, tmp_path: Path) -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    client = web(tmp_path, per_second=2, sleep=sleep, clock=lambda: now[0])
    for i in range(3):
        client.get(f"{server.url}/{i}")
        now[0] += 0.2  # seconds that the answer took
    assert slept == pytest.approx([0.3, 0.3])
    client.get(f"{server.url}/0")
    assert len(slept) == 2, "the cache need not wait"


def test_a_key_is_sent_and_kept_nowhere(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    web(tmp_path, key_env="TEST_KEY").get(f"{server.url}/a")
    assert server.seen[0][1]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in "".join(p.read_text() for p in (tmp_path / "pages").iterdir())
    web(tmp_path).get(f"{server.url}/b")
    assert "Authorization" not in server.seen[1][1]


def test_paths_into_json() -> None:
    value = {"a": [{"b": "x"}, {"b": 0}]}
    assert at_path(value, "a.1.b") == 0
    assert at_path(value, "a.-1.b") == 0
    assert at_path(value, "") == value
    for lost in ("a.2", "a.b", "c.d", "a.0.b.c"):
        assert at_path(value, lost) is None


# -- any service --------------------------------------------------------------------------
def service(server: Any, tmp_path: Path, **config: Any) -> HTTPSource:
    given = {"url": f"{server.url}/{{id}}/{{title}}?y={{year}}", "path": "data.texts", "timeless": True} | config
    return HTTPSource(HTTPConfig.model_validate(given), web(tmp_path))


def test_a_service_is_asked_about_each_item(server: Any, tmp_path: Path) -> None:
    server.default = lambda h: h.send({"data": {"texts": ["One.", "Two."]}})
    odd = item("a/b", "What? & why", 1999)
    found = service(server, tmp_path, name="plots").find([odd, NOBODY])
    assert [(f.of, f.text, f.source) for f in found.facts] == [("a/b", "One.", "plots"), ("a/b", "Two.", "plots")]
    assert server.seen[0][0] == "/a%2Fb/What%3F%20%26%20why?y=1999"
    assert found.missed == {"unmatched": 1}
    assert len(server.seen) == 1, "nothing is asked about an item without a title"


def test_a_service_says_since_when(server: Any, tmp_path: Path) -> None:
    server.default = lambda h: h.send({"text": "x", "at": "1997-09-20"})
    dated = service(server, tmp_path, path="text", time_path="at", timeless=False)
    assert dated.find([HEAT]).facts[0].time == 874713600
    undated = service(server, tmp_path, path="text", time_path="no", timeless=False)
    assert undated.find([HEAT]).missed == {"undated": 1}
    with pytest.raises(ValidationError, match="set time_path, or timeless = true"):
        HTTPConfig(url=f"{server.url}/{{id}}")


def test_a_service_that_fails_is_counted(server: Any, tmp_path: Path) -> None:
    server.behaviours = [
        lambda h: h.send({}, 404),
        lambda h: h.send({"data": {}}),
        lambda h: h.send({"data": {"texts": [" "]}}),
    ]
    server.default = lambda h: h.send({"data": {"texts": "fine"}})
    found = service(server, tmp_path).find([HEAT, HEAT86, ALIEN, ALIENS])
    assert found.missed == {"refused": 1, "unmatched": 2}
    assert [f.text for f in found.facts] == ["fine"]


@pytest.mark.parametrize(
    "url", ["file:///etc/{id}", "http://x.test/", "ftp://x.test/{id}", "http://me:pw@x.test/{id}", "{id}", "http://x.test/{"]
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HTTPConfig(url=url, timeless=True)


def test_an_unknown_column_in_the_address(server: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the items have no 'isbn'"):
        service(server, tmp_path, url=f"{server.url}/{{isbn}}").find([HEAT])


# -- a MediaWiki --------------------------------------------------------------------------
PAGES = {
    "Heat (1995 film)": "'''Heat''' is about [[two men]].",
    "Heat": "Heat is energy, known in 1995 as well.",
    "Alien (film)": "Alien is a 1979 [[science fiction film]].",
    "L'Avventura": "A 1960 Italian film.",
    "Aliens": "'''Aliens''' may refer to {{disambig}}",
}


def wiki(handler: Wiki) -> None:
    """Answer as the API does: normalise, follow redirects, tell what is missing."""
    asked = parse_qs(urlsplit(handler.path).query)
    titles = asked["titles"][0].split("|")
    assert len(titles) <= 20
    normalised = [{"from": t, "to": t[:1].upper() + t[1:]} for t in titles if not t[:1].isupper()]
    titles = [t[:1].upper() + t[1:] for t in titles]
    redirects = [{"from": t, "to": "Alien (film)"} for t in titles if t == "Alien (1979 film)"]
    titles = list(dict.fromkeys("Alien (film)" if t == "Alien (1979 film)" else t for t in titles))
    stamp = asked.get("rvstart", ["2020-01-01T00:00:00Z"])[0]
    pages: list[dict[str, Any]] = [
        {"title": t, "revisions": [{"timestamp": stamp, "slots": {"main": {"content": PAGES[t]}}}]}
        if t in PAGES
        else {"title": t, "missing": True}
        for t in titles
    ]
    handler.send({"query": {"normalized": normalised, "redirects": redirects, "pages": pages[::-1]}})


def mediawiki(server: Any, tmp_path: Path, **config: Any) -> MediaWiki:
    return MediaWiki(MediaWikiConfig(url=f"{server.url}/w/api.php", **config), web(tmp_path))


def test_a_mediawiki_gives_the_same_pages_as_its_dump(server: Any, tmp_path: Path) -> None:
    server.default = wiki
    found = mediawiki(server, tmp_path, name="wiki").find(ITEMS)
    assert {f.of: f.text for f in found.facts} == {
        "1": "Heat is about two men.", "3": "Alien is a 1979 science fiction film.", "5": "A 1960 Italian film.",
    }  # fmt: skip
    assert found.missed == {"unmatched": 4}
    assert found.facts[0].evidence[0].url == f"{server.url}/wiki/Heat_%281995_film%29"
    assert found.facts[0].time == 1577836800
    here = dump(tmp_path / "p.xml", *(page(t, text) for t, text in PAGES.items())).find(ITEMS)
    assert {f.of: f.text for f in here.facts} == {f.of: f.text for f in found.facts}
    assert len(server.seen) <= 3, "twenty titles a request"
    assert mediawiki(server, tmp_path, name="wiki").find(ITEMS) == found
    assert len(server.seen) <= 3, "from the cache"


def test_a_mediawiki_before_a_day(server: Any, tmp_path: Path) -> None:
    server.default = wiki
    found = mediawiki(server, tmp_path, before="2010-01-01").find([HEAT])
    assert found.facts[0].time == 1262304000 - 1
    assert all("|" not in parse_qs(urlsplit(unquote(p)).query)["titles"][0] for p, _, _ in server.seen)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(lambda h: h.send({}, 500), "unavailable"), (lambda h: h.send({"error": {"code": "maxlag"}}), "garbage"),
     (lambda h: h.send({"query": {"pages": {}}}), "garbage")],
)  # fmt: skip
def test_a_mediawiki_that_fails_is_counted(server: Any, tmp_path: Path, behaviour: Answer, kind: str) -> None:
    server.default = behaviour
    assert mediawiki(server, tmp_path).find([HEAT, ALIEN]).missed == {kind: 2}


UNDATED = {"title": "Heat (1995 film)", "revisions": [{"slots": {"main": {"content": "Undated."}}}]}


@pytest.mark.parametrize("entry", [5, {}, {"title": 5}, {"title": "Heat (1995 film)", "revisions": [5]}, UNDATED])
def test_odd_pages_of_a_mediawiki_match_nothing(server: Any, tmp_path: Path, entry: Any) -> None:
    server.default = lambda h: h.send({"query": {"pages": [entry]}})
    assert mediawiki(server, tmp_path).find([HEAT]).missed == {"unmatched": 1}


# -- a function ---------------------------------------------------------------------------
def test_a_function_gives_texts_or_facts() -> None:
    def told(items: Sequence[Item]) -> list[list[str | Fact]]:
        return [[f"About {i.id}.", Fact("item", i.id, "text", "Dated.", "me", time=5)] if i.title else [] for i in items]

    found = FunctionSource("mine", told).find([HEAT, NOBODY])
    assert [(f.text, f.source, f.time) for f in found.facts] == [("About 1.", "mine", None), ("Dated.", "me", 5)]
    assert found.missed == {"unmatched": 1}


def test_configs_open_their_sources(tmp_path: Path) -> None:
    file = tmp_path / "f"
    assert isinstance(open_source(JSONLConfig(path=file)), JSONLSource)
    assert isinstance(open_source(DumpConfig(path=file)), Dump)
    assert isinstance(open_source(MediaWikiConfig()), MediaWiki)
    assert isinstance(open_source(HTTPConfig(url="http://x.test/{id}", timeless=True)), HTTPSource)
