# Plain pip and venv.  `make quickstart`, `make demo` and `make test` set themselves up.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup quickstart demo test test-slow check bench docs peers leaderboard clean

setup: .venv/.ready

# torch first and by version: no other package then pulls a larger build of it
.venv/.ready: pyproject.toml constraints.txt
	@echo "setting up .venv (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: .venv/.ready
	@$(BIN)/llm4rec run experiments/quickstart.toml --out runs/quickstart

demo: .venv/.ready
	@$(BIN)/llm4rec demo

test: .venv/.ready
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

check: .venv/.ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py

bench: .venv/.ready
	$(BIN)/python -m benchmarks

# the libraries that ours are measured beside, each in an environment of its own; nothing else needs them
PEERS ?= recbole rectools lenskit
LLM4REC_PEERS ?= .peers
peers: $(PEERS:%=$(LLM4REC_PEERS)/%/.ready)

$(LLM4REC_PEERS)/%/.ready: peers/%.txt
	@echo "setting up $* in $(@D) (a few minutes) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# the table of docs/leaderboards.md of a set, ml-100k or beauty: tuned systems and other libraries' in one, with intervals and tests
SET ?= ml-100k
leaderboard: .venv/.ready peers
	$(BIN)/llm4rec run experiments/tuned/$(SET).toml
	$(BIN)/llm4rec run experiments/$(SET)-peers.toml
	$(BIN)/llm4rec compare runs/$(SET)-tuned runs/$(SET)-peers --markdown

docs: .venv/.ready
	$(BIN)/python -m pytest tests/test_docs.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
