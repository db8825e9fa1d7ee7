"""The house: floors import downwards only, heavy libraries stay in the file that wraps them.

Every import counts: at the top, inside functions, and for type checkers.  The checker works on a
mapping from module name to source, so that the tests below can feed it made, broken houses.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

#: Room -> floor.  A room may import from lower floors.  Peers stand beside the models: the same verbs over the
#: values of the core, computed by another library in another interpreter.
FLOORS = {
    "core": 0,
    "data": 1, "assets": 1, "metrics": 1, "llm": 1,
    "features": 2, "nn": 2,
    "models": 3, "prompted": 3, "generative": 3, "peers": 3,
    "pipeline": 4,
    "agents": 5, "experiment": 5,
    "app": 6,
}  # fmt: skip

#: The imports between rooms of one floor: data comes from assets, and an expanded query goes to text retrieval.
NEIGHBOURS = {("data", "assets"), ("prompted", "models")}

#: Heavy library -> files that wrap it, or rooms (ending in a dot) whose trade it is.
HEAVY = {
    "torch": {
        "llm4rec.nn.", "llm4rec.models.sasrec", "llm4rec.models.sequential",
        "llm4rec.llm.gguf", "llm4rec.llm.local", "llm4rec.llm.prefix", "llm4rec.llm.guided",
        "llm4rec.features.sentence", "llm4rec.peers.scripts.",
        "llm4rec.models.gru4rec",
        "llm4rec.models.lightgcn", "llm4rec.models.two_tower", "llm4rec.models.feature_network",
        "llm4rec.models.fm", "llm4rec.models.deepfm", "llm4rec.models.dcn",
        "llm4rec.generative.walk", "llm4rec.generative.step", "llm4rec.generative.search", "llm4rec.generative.decode",
        "llm4rec.generative.processor", "llm4rec.generative.t5", "llm4rec.generative.causal",
        "llm4rec.generative.ids.rq_vae",
        "llm4rec.generative.generator", "llm4rec.generative.levels", "llm4rec.generative.semantic_decoder",
        "llm4rec.generative.tiger", "llm4rec.generative.liger",
        "llm4rec.generative.p5", "llm4rec.generative.p5_network",
        "llm4rec.generative.writer", "llm4rec.generative.arithmetic", "llm4rec.generative.item_llm",
        "llm4rec.generative.item_llm_network", "llm4rec.generative.item_llm_training",
    },
    "transformers": {
        "llm4rec.generative.p5_network", "llm4rec.generative.item_llm_network",
        "llm4rec.llm.gguf", "llm4rec.llm.local", "llm4rec.llm.prefix", "llm4rec.features.sentence",
    },
    "sentence_transformers": {"llm4rec.features.sentence"},
    "faiss": {"llm4rec.features.index", "llm4rec.generative.ids.codebooks"},
    "tokenizers": {"llm4rec.generative.ids.words"},
    "implicit": {"llm4rec.models.als", "llm4rec.models.bpr"},
    "peft": {"llm4rec.llm.adapter", "llm4rec.generative.item_llm_network"},
    "llguidance": {"llm4rec.llm.guided"},
    "openai": {"llm4rec.llm.server", "llm4rec.features.server"},
    "optuna": {"llm4rec.experiment.search"},
    "sqlalchemy": {"llm4rec.agents.memory", "llm4rec.agents.storage", "llm4rec.app.server."},
    "fastapi": {"llm4rec.app.server.", "llm4rec.app.web."},
    "uvicorn": {"llm4rec.app.server."}, "prometheus_client": {"llm4rec.app.server."},
    "mcp": {"llm4rec.app.mcp"}, "mcp_types": {"llm4rec.app.mcp"},
}  # fmt: skip

#: Heavy libraries that even their own file imports inside functions only: seconds to load.
LAZY = {"transformers", "tokenizers", "sentence_transformers", "openai", "peft", "optuna", "mcp", "mcp_types"}

LONG = 400
#: File -> why it is longer than LONG lines.
LONG_BECAUSE: dict[str, str] = {}


def sources() -> dict[str, str]:
    """Return the source of each module of the package by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "llm4rec").rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path.read_text()
    return found


def imports(module: str, source: str, modules: Mapping[str, str], packages: set[str]) -> Iterator[tuple[str, int, bool]]:
    """Yield (imported module, line, inside a function?) for every import of a source.

    ``from a import b`` names ``a.b`` where that is a module of the package or a name of its front
    door, else ``a``.
    """
    tree = ast.parse(source)
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if module in packages else module.split(".")[:-1]
                parts = parts[: len(parts) - (node.level - 1)]
                base = ".".join([*parts, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in modules or base == "llm4rec" else base), node.lineno, id(node) in inside
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = ast.unparse(node.func)
            if function in {"__import__", "import_module", "importlib.import_module"}:
                yield str(node.args[0].value), node.lineno, id(node) in inside


def room(module: str) -> str | None:
    """Return the room of a module of the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def floor_faults(modules: Mapping[str, str], packages: set[str]) -> list[str]:
    """Return every import that does not go down, one line each."""
    faults = []
    for module, source in modules.items():
        here = room(module)
        if here is None:
            continue  # the front door hands out the core on first use
        if here not in FLOORS:
            faults.append(f"{module}: the room {here!r} stands on no floor")
            continue
        for target, line, _ in imports(module, source, modules, packages):
            if target.split(".")[0] != "llm4rec":
                continue
            there = room(target)
            if FLOORS[here] > 0 and (target == "llm4rec" or target.startswith("llm4rec.__")):
                continue  # the front door leads to the core alone
            if there not in FLOORS:
                faults.append(f"{module}:{line}: imports {target}, which stands on no floor")
            elif here != there and FLOORS[there] >= FLOORS[here] and (here, there) not in NEIGHBOURS:
                way = "up" if FLOORS[there] > FLOORS[here] else "sideways"
                faults.append(f"{module}:{line}: imports {way} from {here} to {target}")
    return faults


def circles(modules: Mapping[str, str], packages: set[str]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (Tarjan's components).

    A package's ``__init__`` collects its modules; a module that imports its own package's
    ``__init__`` therefore stands in a circle, and is told so.
    """
    graph = {
        m: sorted({t for t, _, _ in imports(m, s, modules, packages) if t in modules and t != m}) for m, s in modules.items()
    }
    graph["llm4rec"] = []  # imports the core on first use only
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def heavy_faults(modules: Mapping[str, str], packages: set[str]) -> list[str]:
    """Return imports of heavy libraries outside of the files that wrap them, one line each."""
    faults = []
    for module, source in modules.items():
        for target, line, lazy in imports(module, source, modules, packages):
            library = target.split(".")[0]
            if library not in HEAVY:
                continue
            if not any(module == w or (w.endswith(".") and module.startswith(w)) for w in HEAVY[library]):
                faults.append(f"{module}:{line}: imports {library}, which is wrapped elsewhere")
            elif library in LAZY and not lazy:
                faults.append(f"{module}:{line}: imports {library} outside of a function")
    return faults


MODULES = sources()
PACKAGES = {".".join(p.parent.relative_to(SOURCE).parts) for p in (SOURCE / "llm4rec").rglob("__init__.py")}


# -- our house --------------------------------------------------------------------------------
def test_floors_import_downwards_only() -> None:
    assert floor_faults(MODULES, PACKAGES) == []


def test_no_circles() -> None:
    assert circles(MODULES, PACKAGES) == []


def test_heavy_libraries_stay_in_their_wrappers() -> None:
    assert heavy_faults(MODULES, PACKAGES) == []


def test_core_stands_on_nothing() -> None:
    allowed = {"numpy", "polars", "pydantic", "scipy", "safetensors", "llm4rec", *sys.stdlib_module_names}
    for module, source in MODULES.items():
        if room(module) == "core":
            used = {t.split(".")[0] for t, _, _ in imports(module, source, MODULES, PACKAGES)}
            assert used <= allowed, f"{module} imports {sorted(used - allowed)}"


def test_long_files_justify_themselves() -> None:
    lengths = {m: s.count("\n") for m, s in MODULES.items()}
    assert {m: n for m, n in lengths.items() if n > LONG and m not in LONG_BECAUSE} == {}
    assert [m for m in LONG_BECAUSE if lengths.get(m, 0) <= LONG] == [], "no longer long"


def test_no_module_is_called_utils() -> None:
    names = {part for module in MODULES for part in module.split(".")}
    assert names & {"util", "utils", "helpers", "common", "misc", "base"} == set()


def _fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {*HEAVY, "polars", "numpy", "pydantic", "scipy"}
    loaded = _fresh("import sys, llm4rec; print(' '.join({m.split('.')[0] for m in sys.modules}))").split()
    assert heavy & set(loaded) == set()


def test_importing_the_package_is_quick() -> None:
    """At most 0.3 s of the processor, the best of three processes, without the start of Python itself."""
    code = "import time; t = time.process_time(); import llm4rec; print(time.process_time() - t)"
    assert min(float(_fresh(code)) for _ in range(3)) <= 0.3


@pytest.mark.parametrize("name", sorted({r for m in MODULES if (r := room(m)) in {"core", "data", "metrics", "llm", "assets"}}))
def test_low_floors_load_without_heavy_libraries(name: str) -> None:
    loaded = _fresh(f"import sys, llm4rec.{name}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))").split()
    assert set(HEAVY) & set(loaded) == set()


# -- the checker can fail ---------------------------------------------------------------------
def faults(**changed: str) -> list[str]:
    """Return the faults of a small made house in which some modules have other sources."""
    house = {"llm4rec": "", "llm4rec.core": "", "llm4rec.core.lists": "", "llm4rec.data": "", "llm4rec.assets": "",
             "llm4rec.metrics": "", "llm4rec.models": "", "llm4rec.models.ease": "", "llm4rec.app": "",
             "llm4rec.llm": "", "llm4rec.llm.local": ""}  # fmt: skip
    house |= {"llm4rec." + name.replace("__", "."): source for name, source in changed.items()}
    packages = {m for m in house if m.count(".") < 2}
    told = [f"circle {' '.join(c)}" for c in circles(house, packages)]
    return floor_faults(house, packages) + told + heavy_faults(house, packages)


CIRCLE = "circle llm4rec.core llm4rec.core.lists"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"core__lists": "import llm4rec.models.ease"}, "imports up from core"),
        ({"core__lists": "from llm4rec.models import ease"}, "imports up from core to llm4rec.models.ease"),
        ({"core__lists": "def f():\n    from llm4rec import app"}, "llm4rec.core.lists:2: imports up from core to llm4rec.app"),
        ({"core__lists": "if TYPE_CHECKING:\n    from llm4rec.data import X"}, "imports up from core to llm4rec.data"),
        ({"core__lists": "import importlib\nimportlib.import_module('llm4rec.app')"}, "imports up from core to llm4rec.app"),
        ({"core__lists": "from ..data import X"}, "imports up from core to llm4rec.data"),
        ({"metrics": "from llm4rec.data import X"}, "imports sideways from metrics to llm4rec.data"),
        ({"assets": "from llm4rec.data import X"}, "imports sideways from assets to llm4rec.data"),
        ({"data": "from llm4rec import Lists"}, "imports llm4rec.Lists, which stands on no floor"),
        ({"core__lists": "import llm4rec"}, "imports llm4rec, which stands on no floor"),
        ({"utils": ""}, "the room 'utils' stands on no floor"),
        ({"data": "import llm4rec.stuff"}, "imports llm4rec.stuff, which stands on no floor"),
        ({"core": "from llm4rec.core import lists", "core__lists": "from llm4rec import core"}, CIRCLE),
        ({"core": "from .lists import X", "core__lists": "def f():\n  import llm4rec.core"}, CIRCLE),
        ({"core": "import llm4rec.core.lists", "core__lists": "if TYPE_CHECKING:\n  import llm4rec.core"}, CIRCLE),
        ({"models__ease": "import torch.nn"}, "llm4rec.models.ease:1: imports torch, which is wrapped elsewhere"),
        ({"models__ease": "def f():\n    import faiss"}, "llm4rec.models.ease:2: imports faiss"),
        ({"llm__local": "import transformers"}, "imports transformers outside of a function"),
    ],
)  # fmt: skip
def test_the_checker_finds(changed: dict[str, str], says: str) -> None:
    assert any(says in fault for fault in faults(**changed)), faults(**changed)


def test_the_checker_allows() -> None:
    assert faults() == []
    good = {
        "data": "from llm4rec.assets import fetch\nfrom llm4rec.core import Lists",
        "models__ease": "import numpy\nfrom llm4rec.core.lists import Lists\nfrom llm4rec.data import X",
        "app": "from llm4rec import __version__\ndef f():\n    from llm4rec.models import ease",
        "llm__local": "import torch\ndef f():\n    import transformers",
        "core": "from llm4rec.core.lists import Lists",
    }
    assert faults(**good) == []
