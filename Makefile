# Everything a developer or a newcomer types. `make` alone lists it.
#
# `check` is the gate: it holds `lint` and `test`. CI runs `make check test` in one go, so the tests run once.
# Stamps in $(VENV) make a second `make` instant; another Python gets its own folder:
# `make test PYTHON=python3.10 VENV=.venv-3.10`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL := models/moonshine-tiny-en
PASSES ?= second

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup run demo test check lint proto format bench soak coverage clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp $(MODEL)/setup.stamp ## everything for development: virtual environment, tools, model

run: $(VENV)/run.stamp $(MODEL)/setup.stamp ## a node on 127.0.0.1:50051 with the embedded model
	@printf '%s\n' 'Once the node is SERVING, type in another shell:' \
	  '  $(BIN)/parley health' \
	  '  $(BIN)/parley transcribe tests/data/two_cities.flac' \
	  '  $(BIN)/parley stream --separate-channels tests/data/demo_call.wav' ''
	@exec $(BIN)/parley serve

demo: $(VENV)/run.stamp $(MODEL)/setup.stamp ## a stereo call streamed live and files transcribed, words shown
	@$(BIN)/python -m scripts.demo

test: setup ## all tests
	$(BIN)/python -m pytest

check: lint test ## the gate: lint and test

lint: $(VENV)/dev.stamp ## format, lint, types, import contracts, protocol, generated code
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/python scripts/gen_proto.py --check

format: $(VENV)/dev.stamp ## rewrite the sources in the house's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/buf format --write proto

proto: $(VENV)/dev.stamp ## generate the Python code of proto/, beside the .proto files
	$(BIN)/python scripts/gen_proto.py

bench: setup ## streams held, delays and throughput on this machine; PASSES=first, both or second
	$(BIN)/python -m scripts.bench --passes $(PASSES)

soak: setup ## an hour-long call, an hour-long file and 500 idle connections: memory and delays stay flat; PASSES
	$(BIN)/python -m scripts.soak --passes $(PASSES)

coverage: setup ## all tests, with the branches they miss
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

clean: ## remove what make made
	rm -rf $(VENV) *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -f $(MODEL)/*.onnx $(MODEL)/*.bin $(MODEL)/setup.stamp

$(VENV)/run.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[model]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,model]'
	touch $@

$(MODEL)/setup.stamp: scripts/fetch_model.py scripts/moonshine_graph.py $(MODEL)/model.toml | $(VENV)/run.stamp
	$(BIN)/python -m scripts.fetch_model
	touch $@
