# Each target sets up what it needs in .venv: a machine needs only Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check bench profile soak fuzz clean

help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/has-cli ## A parallel job on one Dict, on the source files of Python's standard library
	$(BIN)/holdall demo

test: $(VENV)/has-test ## All tests, on real processes
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

check: $(VENV)/has-check ## Ruff, mypy and pyright, all strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

soak: $(VENV)/has-test ## The simulator on many seeds (SEEDS=0:10000), Dicts of a million entries, real processes under faults (SOAK="--seconds 3600")
	$(BIN)/python -m tests.simulation.run --seeds $(or $(SEEDS),0:10000)
	HOLDALL_TEST_ENTRIES=1000000 $(BIN)/python -m pytest tests/service/test_size.py tests/service/test_ttl.py
	$(BIN)/python -m tests.soak.recovery
	$(BIN)/python -m tests.soak.run $(SOAK)

fuzz: $(VENV)/has-test ## Hostile messages to each socket of a service that others use (FRAMES=10000000)
	$(BIN)/python -m tests.fuzz.run --frames $(or $(FRAMES),10000000)

bench: $(VENV)/has-bench ## Every goal of speed as a ratio to a peer in the same run (BENCH="--rounds 9 --html bench.html")
	$(BIN)/holdall bench goals $(BENCH)

profile: $(VENV)/has-bench ## Where the microseconds of a get and a put go, hop by hop
	$(BIN)/holdall bench profile

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/has-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
