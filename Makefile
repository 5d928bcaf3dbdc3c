# Winnow. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
LABEL_STUDIO_VENV := .venv-label-studio
PEERS_VENV := .venv-peers
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK := requirements.lock
LABEL_STUDIO_LOCK := infra/label-studio/requirements.lock
PEERS_LOCK := infra/peers/requirements.lock
COMPILE := pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

# every process, and every Ray actor, would otherwise compile torch and ray again
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fmt types contracts unit test-long bench bench-long bench-demo bench-operators bench-ocr bench-confidence bench-people bench-peers-setup soak lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/.ready $(LABEL_STUDIO_VENV)/.ready ## make .venv and Label Studio's own environment

$(VENV)/.ready: $(LOCK) infra/setup/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else f"Winnow needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}. Set PYTHON=python3.12, say.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/setup/requirements.lock
	$(UV) pip sync --quiet --python $(VENV) --require-hashes $(LOCK) infra/setup/requirements.lock
	$(UV) pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable .
	@touch $@

$(LABEL_STUDIO_VENV)/.ready: $(LABEL_STUDIO_LOCK) $(VENV)/.ready
	test -x $(LABEL_STUDIO_VENV)/bin/python || $(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	$(UV) pip sync --quiet --python $(LABEL_STUDIO_VENV) --require-hashes $(LABEL_STUDIO_LOCK)
	@touch $@

demo: setup ## the main job on the embedded default: corpus, models, run, Label Studio, report; then a round of the loop
	$(BIN)/winnow demo

test: setup lint types contracts unit ## everything that must hold

lint: $(VENV)/.ready ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fmt: $(VENV)/.ready ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.ready ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/.ready ## which room may import which
	$(BIN)/lint-imports

unit: setup ## the tests, with coverage
	$(BIN)/python -m tests.halves -m "not long"

test-long: setup ## the proofs that take minutes: ledgers lost, workers that wake, bad networks under Ray
	$(BIN)/python -m pytest -m long

bench: setup ## the short form of every benchmark, one JSON line per point; within 15 minutes
	-@$(MAKE) --no-print-directory bench-peers-setup
	$(BIN)/python -m tests.benchmarks.engine.forms short

bench-long: setup ## the long forms: five turns, ten million items, 6,000 images beside the peers; hours
	-@$(MAKE) --no-print-directory bench-peers-setup
	$(BIN)/python -m tests.benchmarks.engine.forms long

# Daft wants another pyarrow than ours: its own environment, with everything else seen behind it
bench-peers-setup: $(PEERS_VENV)/.ready ## make .venv-peers, with Daft, for the comparison with its peers

$(PEERS_VENV)/.ready: $(PEERS_LOCK) $(VENV)/.ready
	test -x $(PEERS_VENV)/bin/python || $(PYTHON) -m venv --without-pip $(PEERS_VENV)
	$(UV) pip sync --quiet --python $(PEERS_VENV) --require-hashes $(PEERS_LOCK)
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' > $$($(PEERS_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/behind.pth
	@touch $@

bench-demo: setup ## a thousand photographs through all five tasks (after make demo, whose models it uses)
	$(BIN)/python -m tests.benchmarks.thousand

bench-operators: setup ## every operator in one job over the demo's images and 500 more (after make demo); some minutes
	$(BIN)/python -m tests.benchmarks.every_operator

bench-ocr: setup ## pages a second of winnow run beside rapidocr called directly, and wrong characters; some minutes
	$(BIN)/python -m tests.benchmarks.workers.ocr --pages 200 --turns 1

bench-confidence: setup ## is p_ok a true probability on hard tasks, and does review by it find the errors; ten minutes
	$(BIN)/python -m tests.benchmarks.confidence

bench-people: setup ## people in the loop: promises, consensus, chosen labels, nothing lost; one JSON line per point, within 15 minutes
	$(BIN)/python -m tests.benchmarks.annotation.guarantee --splits 100
	$(BIN)/python -m tests.benchmarks.annotation.consensus --seeds 3
	$(BIN)/python -m tests.benchmarks.annotation.selection --seeds 5
	$(BIN)/python -m tests.benchmarks.annotation.gate --rounds 60
	$(BIN)/python -m tests.benchmarks.annotation.drift --jobs 50
	$(BIN)/python -m tests.benchmarks.annotation.loop --rounds 5
	$(BIN)/python -m tests.benchmarks.annotation.studio_kills --kills 10 --server-kills 1
	$(BIN)/python -m tests.benchmarks.annotation.push_rate --turns 1
	$(BIN)/python -m tests.benchmarks.annotation.explain --items 200000 --asked 5

soak: setup ## five hundred kills and more, by a seed; about an hour
	$(BIN)/python -m tests.benchmarks.engine.soak --kills 500

lock: $(VENV)/.ready ## compile the lock files again, newest versions
	$(UV) $(COMPILE) --upgrade pyproject.toml --extra dev -o $(LOCK)
	$(UV) $(COMPILE) --upgrade infra/label-studio/requirements.in -o $(LABEL_STUDIO_LOCK)
	$(UV) $(COMPILE) --upgrade infra/setup/requirements.in -o infra/setup/requirements.lock
	$(UV) $(COMPILE) --upgrade infra/ray/requirements.in -o infra/ray/requirements.lock
	$(UV) $(COMPILE) --upgrade infra/peers/requirements.in -o $(PEERS_LOCK)

clean: ## remove what the targets made
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) $(PEERS_VENV) .cache demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
