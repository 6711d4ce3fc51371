PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Exact versions, tested together; `make CONSTRAINTS= …` takes the newest that setup.cfg allows.
CONSTRAINTS ?= -c constraints.txt
SEED ?= 0

.PHONY: demo test slow upstream check format

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## the main job: videos in, a trained model and ranked music out
	$(BIN)/cmmixer demo --seed $(SEED) --output demo/seed-$(SEED)

test: $(VENV)/ready  ## the tests, in minutes
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/ready  ## the long tests
	$(BIN)/python -m pytest -m slow

upstream: $(VENV)/ready  ## transformers' own common tests on our classes (fetches its source distribution)
	$(BIN)/python tests/upstream.py
	$(BIN)/python -m pytest -o addopts=-ra -p no:warnings tests/test_transformers_common.py tests/test_transformers_skips.py

check: $(VENV)/ready  ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
