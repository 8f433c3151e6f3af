# Each target sets up what it needs in .venv: a machine needs only Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --editable
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

CONTRACT := $(addprefix tests/service/test_,dict.py mapping_protocol.py objects.py batches.py awaiting.py large_values.py parallel.py \
	values_between_processes.py ttl.py size.py)

DISK := $(addprefix tests/,core/test_check.py core/test_directory.py faults/test_backup.py faults/test_blob_kills.py \
	faults/test_fate.py faults/test_full_disk.py faults/test_kills.py)

# Tests start many hundreds of processes, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test slow test-all contract check house bench profile soak fuzz network clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/has-holdall ## A parallel job on one Dict, on the source files of Python's standard library
	$(BIN)/holdall demo

test: $(VENV)/has-test ## All tests but those that take long by their nature, on real processes
	$(PYTEST) -m "not slow"

slow: $(VENV)/has-test ## Those that take long by their nature
	$(PYTEST) -m slow

test-all: $(VENV)/has-test ## All tests
	$(PYTEST)

contract: $(VENV)/has-test ## What a Dict promises, in every other setting: without lanes; in SQLite, with what is promised of a disk; on a cluster
	HOLDALL_LANES=off $(PYTEST) $(CONTRACT)
	HOLDALL_ENGINE=sqlite $(PYTEST) $(CONTRACT) $(DISK)
	for engine in redis redis-cluster valkey-cluster; do HOLDALL_TEST_CLUSTER=$$engine $(PYTEST) $(CONTRACT) || exit 1; done

check: $(VENV)/has-check ## Ruff, mypy and pyright, all strict; the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m tests.house

house: $(VENV)/has-check ## The product in figures: its length, circles of imports, floors, names with two meanings
	$(BIN)/python -m tests.house

soak: $(VENV)/has-test ## The simulator on many seeds (SEEDS=0:10000), Dicts of a million entries, real processes under faults (SOAK="--seconds 3600")
	$(BIN)/python -m tests.simulation.run --seeds $(or $(SEEDS),0:10000)
	HOLDALL_TEST_ENTRIES=1000000 $(BIN)/python -m pytest tests/service/test_size.py tests/service/test_ttl.py
	$(BIN)/python -m tests.soak.recovery
	$(BIN)/python -m tests.soak.fates
	$(BIN)/python -m tests.soak.run $(SOAK)

fuzz: $(VENV)/has-test ## Hostile messages to each socket of a service that others use (FRAMES=10000000)
	$(BIN)/python -m tests.fuzz.run --frames $(or $(FRAMES),10000000)

network: $(VENV)/has-test ## Clients of other hosts, as network namespaces: cables that delay, lose and are cut; for root
	HOLDALL_NETWORK_LONG=1 $(BIN)/python -m pytest -m slow -s tests/network

bench: $(VENV)/has-bench ## Every goal of speed as a ratio to a peer in the same run (BENCH="--rounds 9 --html bench.html")
	$(BIN)/holdall bench goals $(BENCH)

profile: $(VENV)/has-bench ## Where the microseconds of a get and a put go, hop by hop
	$(BIN)/holdall bench profile

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/has-holdall: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(INSTALL) .
	@touch $@

$(VENV)/has-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(INSTALL) '.[$*]'
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
