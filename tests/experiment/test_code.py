"""Old figures are kept exactly as long as nothing that shapes them has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm4rec.experiment import code
from llm4rec.experiment.code import fingerprint, reached

SOURCES = {
    "__init__.py": "",
    "core/__init__.py": "from house.core.values import V",
    "core/values.py": "V = 1",
    "nn/__init__.py": "",
    "nn/blocks.py": "import numpy",
    "nn/unused.py": "",
    "models/__init__.py": "",
    "models/one.py": "from house.nn import blocks\ndef f():\n    from house.core import V",
    "models/two.py": "import house.models.one",
    "peers/__init__.py": "",
    "peers/peer.py": "",
    "peers/scripts/there.py": "x = 1",
    "peers/templates/a.j2": "words",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


def test_what_a_module_imports_is_reached_wherever_the_import_stands(house: Path) -> None:
    names = {p.relative_to(house).as_posix() for p in reached(["house.models.one"], house)}
    packages = {"__init__.py", "core/__init__.py", "nn/__init__.py", "models/__init__.py"}
    assert names == packages | {"models/one.py", "nn/blocks.py", "core/values.py"}
    assert reached(["house.models.two"], house) == reached(["house.models.one"], house) | {house / "models/two.py"}


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("core/values.py", {"one", "two", "peer"}),  # a room that all go through
        ("nn/blocks.py", {"one", "two"}),
        ("models/one.py", {"one", "two"}),
        ("models/two.py", {"two"}),
        ("nn/unused.py", set()),
        ("peers/scripts/there.py", {"peer"}),
        ("peers/templates/a.j2", {"peer"}),
        ("experiment/run.py", {"one", "two", "peer"}),
        ("experiment/report.py", set()),
    ],
)
def test_a_change_makes_stale_what_it_shapes(
    house: Path, monkeypatch: pytest.MonkeyPatch, changed: str, stale: set[str]
) -> None:
    (house / "experiment").mkdir()
    for name in ("__init__", "run", "report"):
        (house / "experiment" / f"{name}.py").write_text("")
    monkeypatch.setattr(code, "_ROOT", house)
    monkeypatch.setattr(code, "_ROOMS", ())
    monkeypatch.setattr(code, "_HERE", ("run",))
    modules = {"one": "house.models.one", "two": "house.models.two", "peer": "house.peers.peer"}

    def keys() -> dict[str, str]:
        fingerprint.cache_clear()
        return {name: fingerprint(frozenset({module, "house.core"})) for name, module in modules.items()}

    before = keys()
    path = house / changed
    path.write_text(path.read_text() + "\n# changed\n")
    after = keys()
    fingerprint.cache_clear()
    assert {name for name in modules if before[name] != after[name]} == stale


def test_every_component_has_its_code_hashed() -> None:
    from llm4rec.experiment.catalog import CATALOG

    keys = {name: fingerprint(frozenset({entry.component.__module__})) for name, entry in CATALOG.items()}
    assert keys["sasrec"] != keys["gru4rec"] != keys["ease"]
    own = {p.relative_to(code._ROOT).as_posix() for p in reached([CATALOG["sasrec"].component.__module__], code._ROOT)}
    assert {"models/sasrec.py", "nn/blocks.py", "nn/train.py", "nn/losses.py", "core/component.py"} <= own
    assert not {"models/gru4rec.py", "experiment/catalog.py", "experiment/run.py"} & own
