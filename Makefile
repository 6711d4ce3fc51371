PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Exact versions, tested together; `make CONSTRAINTS= …` takes the newest that setup.cfg allows.
CONSTRAINTS ?= -c constraints.txt
SEED ?= 0

.PHONY: demo checkpoint test slow foreign upstream check format oldest newest wheel docs

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## the main job: videos in, a trained model and ranked music out
	$(BIN)/cmmixer demo --seed $(SEED) --output demo/seed-$(SEED)

checkpoint: $(VENV)/ready  ## checkpoints/: the small released model, made again from a seed
	$(BIN)/python examples/checkpoint.py

test: $(VENV)/ready  ## the tests, in minutes
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/ready  ## the long tests
	$(BIN)/python -m pytest -m slow

# torchvision and timm, which the CPU build of torch in .venv does not go with, have an environment of their own (5.5 GB).
foreign:  ## tests of other families' models, such as PE-AV
	$(PYTHON) -m venv .venv-foreign
	.venv-foreign/bin/pip install --quiet torch==2.14.1 torchvision==0.29.1 timm==1.0.30 -e ".[hub,index]" pytest
	.venv-foreign/bin/python -m pytest -m "" tests/foreign tests/search/embedders

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

# What the dependencies are used for most, in a minute or two.
QUICK := $(addprefix tests/,test_cli.py test_doctor.py test_hub.py data/test_preparation.py evaluation/test_retrieval.py hub/test_auto_classes.py \
	media/test_feature_extraction_cmmixer.py media/test_processing_cmmixer.py media/test_reading.py models/test_modeling_cmmixer.py \
	search/test_index.py training/test_loop.py training/test_model_card.py)

oldest:  ## a quick part of the tests on the oldest versions that setup.cfg allows
	$(PYTHON) -m venv .venv-oldest
	sed -nE 's/^ +([a-z0-9-]+)(\[[a-z]+\])?>=/\1==/p' setup.cfg > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet -c .venv-oldest/constraints.txt -e ".[app,tracking]" pytest
	.venv-oldest/bin/python -m pytest -m "not slow" $(QUICK)

# `make newest TORCH=torch==2.13.0` keeps to one torch, such as a build for CPUs that pip finds on this machine.
TORCH ?= torch

newest:  ## the same on the newest versions that there are
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade "$(TORCH)" -e ".[demo]" pytest
	.venv-newest/bin/python -m pytest -m "not slow" $(QUICK)

docs:  ## build/site: the documentation, with the reference read from the docstrings
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet mkdocs-material mkdocstrings-python
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

wheel: $(VENV)/ready  ## dist/: what is released
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest -m "" tests/test_release.py
