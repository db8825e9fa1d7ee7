"""A specification is right, or one line says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import LLM4RecError, SpecError
from llm4rec.data import load
from llm4rec.experiment.catalog import CATALOG
from llm4rec.experiment.spec import System, order, parse_spec, read_spec

GOOD = """
[experiment]
name = "x"
[data]
set = "ml-100k"
[encoder.minilm]
model = "all-MiniLM-L6-v2"
[systems.ease]
component = "ease"
l2 = 100
[systems.text]
component = "text"
encoder = "minilm"
[systems.both]
retrieve = ["ease", "text"]
depth = 10
rank = [{ component = "ease" }]
"""

#: All but those of conversations, which are read otherwise (tests/app/test_converse.py).
EXPERIMENTS = sorted(p for p in (Path(__file__).parents[2] / "experiments").rglob("*.toml") if p.parent.name != "conversations")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_shipped_specifications_are_valid_and_survive_their_own_dump(path: Path) -> None:
    spec = read_spec(path)
    again = parse_spec(spec.dump())
    assert again.dump() == spec.dump()
    assert [s.parts for s in again.systems.values()] == [s.parts for s in spec.systems.values()]


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if hasattr(entry.component, "retrieve")])
def test_no_parameter_has_the_name_of_a_key_of_the_system(name: str) -> None:
    assert not set(CATALOG[name].component.Config.model_fields) & set(System.model_fields)


def test_the_dump_holds_the_defaults() -> None:
    dumped = parse_spec(GOOD).dump()
    assert 'primary = "ndcg@10"' in dumped
    assert "candidates = 100" in dumped
    assert "l2 = 100.0" in dumped


def test_a_made_world_is_a_data_set_like_any_other() -> None:
    spec = parse_spec(GOOD.replace('set = "ml-100k"', "make = { users = 40, items = 60, events = 300 }"))
    assert parse_spec(spec.dump()) == spec
    assert (load(spec.data).n_users, len(load(spec.data).events)) == (40, 300)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("l2 = 100", "l3 = 100", ("systems.ease", "l3", "known: against, augment, control, half_life, l2")),
        ("l2 = 100", "l2 = -1", ("systems.ease", "l2", "-1")),
        ("l2 = 100", 'l2 = "much"', ("systems.ease", "l2", "much")),
        ('component = "text"', 'component = "txt"', ("systems.text.component", "'txt'", "did you mean 'text'")),
        ('encoder = "minilm"', 'encoder = "minilmm"', ("systems.text", "minilmm", "did you mean 'minilm'")),
        ('["ease", "text"]', '["eas", "text"]', ("systems.both", "'eas'", "did you mean 'ease'")),
        ('["ease", "text"]', '["both"]', ("systems.both", "retrieves with itself")),
        (
            "[systems.both]",
            'label = "X"\n[systems.both]\nlabel = "X"',
            ("systems.text.label", "several systems are labelled 'X'"),
        ),
        ('["ease", "text"]', '["ease", "ease"]', ("systems.both.retrieve", "names a system twice", "more weight")),
        ("depth = 10", "dept = 10", ("systems.both", "dept", "did you mean 'depth'")),
        ("depth = 10", 'component = "ease"', ("systems.both", "both 'component' and 'retrieve'")),
        ('name = "x"', 'name = "x"\nprimary = "ndgc@10"', ("ndgc@10", "did you mean 'ndcg'")),
        ('name = "x"', 'name = "x"\nks = [0]', ("experiment.ks", "at least 1")),
        ('name = "x"', 'name = "x"\nseeds = []', ("experiment.seeds",)),
        ('name = "x"', 'nam = "x"', ("experiment",)),
        ('set = "ml-100k"', 'sett = "ml-100k"', ("data",)),
        ('set = "ml-100k"', "make = { user = 40 }", ("data.make.user", "did you mean 'users'")),
        ('set = "ml-100k"', "make = { users = 40, events = 40 }", ("data.make", "more than 40 events")),
        ('model = "all-MiniLM-L6-v2"', 'modell = "x"', ("encoder.minilm", "modell", "did you mean 'model'")),
        ("[systems.ease]", "[systems.'a/b']\ncomponent = 'ease'\n[systems.ease]", ("a/b", "letters, digits")),
        ("[data]", "[daten]", ("[data]", "missing")),
        ("[data]", "[protocol]\nmask = 'sean'\n[data]", ("protocol.mask", "'seen'")),
        ("[data]", "[data", ("not TOML", "line")),
        ('name = "x"', 'name = "../x"', ("experiment.name", "folder")),
        ('name = "x"', 'name = ""', ("experiment.name", "folder")),
        ('name = "x"', 'name = "x"\nks = [99999999999999999999]', ("experiment.ks", "at most")),
        ('name = "x"', 'name = "x"\nprimary = "ndcg@99999999"', ("experiment.primary", "at most")),
        ('name = "x"', 'name = "x"\nmetrics = ["recal"]', ("experiment.metrics", "did you mean 'recall'")),
        ('name = "x"', 'name = "x"\nseeds = [9223372036854775808]', ("experiment.seeds", "at most")),
        ("l2 = 100", "l2 = inf", ("systems.ease", "l2", "finite")),
        ("[systems.ease]", "[systems.dataset]\ncomponent = 'ease'\n[systems.ease]", ("systems.dataset", "not 'dataset'")),
        ("[systems.ease]", f"[systems.{'a' * 300}]\ncomponent = 'ease'\n[systems.ease]", ("at most 100",)),
        ("[systems.ease]", "[systems.e]\ncomponent = 'evidence-explainer'\n[systems.ease]", ("systems.e", "cannot retrieve")),
        ("depth = 10", "depth = 10\nexplain = { component = 'ease' }", ("systems.both", "ease cannot explain")),
        ('rank = [{ component = "ease" }]', 'rank = [{ component = "evidence-explainer" }]', ("systems.both", "cannot rank")),
        ('["ease", "text"]', "[]", ("systems.both.retrieve", "at least one")),
        ("l2 = 100", "l2 = 100\n[systems.s]\ncomponent = 'sasrec'\nwidth = 7\nheads = 2", ("systems.s", "no multiple")),
    ],
)
def test_each_mistake_is_one_line_that_points_at_the_key(old: str, new: str, parts: tuple[str, ...]) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        parse_spec(GOOD.replace(old, new, 1), where="x.toml")
    line = str(caught.value)
    assert line.startswith("x.toml") or "metric" in line
    assert "\n" not in line
    for part in parts:
        assert part in line, line


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    for line in (
        'api_key_env = "sk-verysecret"',
        'base_url = "http://me:sk-verysecret@host/v1"',
        'temperature = "sk-verysecret"',
    ):
        text = GOOD + f'\n[llm.mine]\nbackend = "server"\n{line}\n'
        with pytest.raises(SpecError) as caught:
            parse_spec(text)
        assert "sk-verysecret" not in str(caught.value)
        assert "llm.mine" in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.toml").write_text(GOOD)
    with pytest.raises(SpecError, match=r"did you mean 'quickstart\.toml'"):
        read_spec(tmp_path / "quikstart.toml")


def test_paths_are_relative_to_the_specification(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(GOOD.replace('set = "ml-100k"', 'path = "log.csv"'))
    assert read_spec(tmp_path / "s.toml").data.path == tmp_path / "log.csv"


def test_so_are_those_of_components(tmp_path: Path) -> None:
    ranker = 'component = "llm-ranker", llm = "tiny", template = "mine.j2"'
    table = GOOD + '[llm.tiny]\nbackend = "local"\nmodel = "tiny"\nprices = "prices.toml"\n'
    table += f'[systems.asked]\nretrieve = ["ease"]\nrank = [{{ {ranker} }}]\n'
    table += 'augment = [{ component = "item-memory", sources = [{ kind = "jsonl", path = "facts.jsonl" }] }]\n'
    (tmp_path / "s.toml").write_text(table)
    spec = read_spec(tmp_path / "s.toml")
    assert spec.llm["tiny"].prices == tmp_path / "prices.toml"
    assert spec.systems["asked"].rank[0].params["template"] == str(tmp_path / "mine.j2")
    assert spec.systems["asked"].augment[0].params["sources"][0]["path"] == str(tmp_path / "facts.jsonl")
    assert parse_spec(spec.dump(), folder=tmp_path / "elsewhere") == spec  # what was resolved stays


def test_order_puts_retrievers_first() -> None:
    text = GOOD.replace("[systems.ease]", '[systems.first]\nretrieve = ["both"]\n[systems.ease]')
    names = order(parse_spec(text))
    assert names.index("first") > names.index("both") > names.index("text")


@given(st.text(max_size=400))
def test_any_text_is_a_specification_or_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["ease", "text", "minilm"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(["experiment", "data", "split", "protocol", "encoder", "llm", "systems"]),
    st.dictionaries(
        st.sampled_from(["name", "set", "component", "retrieve", "rank", "explain", "depth", "encoder", "mask", "ks", "x"])
        | st.text(max_size=5),
        _values,
        max_size=4,
    ),
)
def test_any_table_is_taken_or_refused_in_one_line(table: str, content: dict[str, object]) -> None:
    import tomli_w

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if v is not None}
        if isinstance(value, list):
            return [clean(v) for v in value if v is not None]
        return value

    body = {"experiment": {"name": "x"}, "data": {"set": "ml-100k"}, "systems": {"ease": {"component": "ease"}}}
    body[table] = {"odd": clean(content)} if table in ("encoder", "llm", "systems") else clean(content)  # type: ignore[assignment,dict-item]
    try:
        parse_spec(tomli_w.dumps(body))
    except SpecError as error:
        assert "\n" not in str(error)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(GOOD, encoding="utf-8-sig")
    assert read_spec(tmp_path / "x.toml") == parse_spec(GOOD, folder=tmp_path)


def test_a_path_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LLM4RecError) as caught:
        load(parse_spec(GOOD.replace('set = "ml-100k"', 'path = "a\\u0000b"'), folder=tmp_path).data)
    assert "\n" not in str(caught.value)


LIKE = (
    GOOD
    + """
[systems.sasrec]
component = "sasrec"
dropout = 0.3
item_init = { encoder = "minilm", scale = 0.03 }
note = "the real one"
[systems.shuffled]
like = "sasrec"
control = true
item_init = { control = "shuffled" }
[systems.wide]
like = "shuffled"
width = 128
"""
)


def test_a_system_like_another_differs_in_what_it_says() -> None:
    systems = parse_spec(LIKE).systems
    shuffled, wide = systems["shuffled"], systems["wide"]
    assert shuffled.parts[0].params["dropout"] == wide.parts[0].params["dropout"] == 0.3
    assert shuffled.parts[0].params["item_init"] == systems["sasrec"].parts[0].params["item_init"] | {"control": "shuffled"}
    assert (wide.parts[0].params["width"], wide.parts[0].params["item_init"]["control"]) == (128, "shuffled")
    assert (shuffled.control, wide.control) == (True, False)  # what a system is to the table is not taken over
    assert shuffled.note == ""


def test_a_baseline_is_named_and_not_taken_over() -> None:
    text = (
        LIKE.partition("[systems.shuffled]")[0]
        + '[systems.shuffled]\nlike = "sasrec"\nagainst = "sasrec"\ncontrol = true\n[systems.wide]\nlike = "shuffled"\n'
    )
    spec = parse_spec(text)
    assert [spec.systems[n].against for n in ("sasrec", "shuffled", "wide")] == ["", "sasrec", ""]
    assert parse_spec(spec.dump()).systems["shuffled"].against == "sasrec"
    for name, message in (("sasrek", "'sasrek' is no system; did you mean 'sasrec'"), ("shuffled", "is tested against itself")):
        with pytest.raises(SpecError, match=f"systems.shuffled.against: {message}"):
            parse_spec(text.replace('against = "sasrec"', f'against = "{name}"'))


def test_what_is_like_another_follows_its_parameters() -> None:
    spec = parse_spec(LIKE)
    params = spec.systems["sasrec"].parts[0].params
    changed = spec.with_params(
        "sasrec", params | {"dropout": 0.5, "width": 32, "item_init": params["item_init"] | {"scale": 0.1}}
    )
    shuffled, wide = (changed.systems[n].parts[0].params for n in ("shuffled", "wide"))
    assert (shuffled["dropout"], shuffled["width"]) == (0.5, 32)
    assert shuffled["item_init"] == params["item_init"] | {"scale": 0.1, "control": "shuffled"}
    assert (wide["dropout"], wide["width"], wide["item_init"]) == (0.5, 128, shuffled["item_init"])
    assert parse_spec(changed.dump()).dump() == changed.dump()


def test_a_system_without_the_text_of_the_other() -> None:
    spec = parse_spec(GOOD + '[systems.lists]\nlike = "both"\nretrieve = ["text"]\n')
    assert spec.systems["lists"].retrieve == ("text",)
    assert spec.systems["lists"].pipeline == spec.systems["both"].pipeline
    assert spec.systems["lists"].rank == spec.systems["both"].rank


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('like = "sasrek"', "systems.x.like: 'sasrek' is no system"),
        ("like = 3", "systems.x.like: 3 is no system"),
        ('like = "x"', "is like itself (x -> x)"),
        ('like = "ease"\nl3 = 1', "systems.x.l3: unknown key"),
    ],
)
def test_like_what_is_not_there(table: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{GOOD}[systems.x]\n{table}\n")
    assert message in str(caught.value)
