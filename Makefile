# One verb a line. Needs make, a shell and Python 3.11 or later with venv; nothing else, and no network
# once `.venv` is made. What is installed is what constraints.txt names, by its hash.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
PYTHON ?= python3
PYTEST_ARGS ?=
# Test processes at once; 0 for none beside pytest itself. Each has a Redis of its own.
TEST_PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
CODE := core api worker operator example docs tests benchmarks

.PHONY: help demo serve test setup lint types layers docs-check unit integration e2e chaos bench soak fix docs lock clean

help:  ## show what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

demo: setup  ## set up, start everything, run the example through the API, stop
	@PATH="$(CURDIR)/$(BIN):$$PATH" example/demo

serve: setup  ## run the example's API, worker and Redis until Ctrl-C
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec script-runner serve

test: setup lint types layers docs-check  ## set up, then everything that must pass
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

setup: $(STAMP)  ## make .venv; quick when it is up to date

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11 or later; name one that is: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "no venv: install your system's package for it (Debian: python3-venv)" >&2; rm -rf $(VENV); exit 1; }
	@echo "installing what constraints.txt names into $(VENV) (about a minute the first time)"
	@$(PIP) install --no-deps --require-hashes -r constraints.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@found=$$($(BIN)/python -m pip check) || { echo "$$found; if that persists: make clean" >&2; exit 1; }
	@touch $@

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports --no-cache

docs-check: setup
	$(BIN)/python docs/generate_reference.py --check
	$(BIN)/python -m script_runner.operator.crd --check
	$(BIN)/python docs/generate_chart.py --check

unit: setup  ## the unit tests
	$(BIN)/python -m pytest tests/unit -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

integration: setup  ## the tests on real processes and a real Redis
	$(BIN)/python -m pytest tests/integration $(PYTEST_ARGS)

e2e: setup  ## the tests on a Kubernetes of its own: needs Go and, for a node, root (half an hour the first time)
	$(BIN)/python -m tests.cluster prepare
	$(BIN)/python -m tests.cluster build
	$(BIN)/python -m tests.cluster images
	@# On a busy machine a cluster can miss a time limit: what failed is tried once more, by itself.
	REQUIRE_CLUSTER=1 $(BIN)/python -m pytest tests/helm tests/control_plane tests/e2e $(PYTEST_ARGS) || \
	  REQUIRE_CLUSTER=1 $(BIN)/python -m pytest --last-failed tests/helm tests/control_plane tests/e2e $(PYTEST_ARGS)

chaos: setup  ## a few minutes of random faults; SEED=n repeats a run, MINUTES=n is its length
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: setup  ## the speed table; ROWS="submit claim" for some of it, ROWS="runners wake" for Kubernetes
	$(BIN)/python -m benchmarks $(ROWS)

soak: setup  ## half an hour of workers that come and go on a Kubernetes node; MINUTES=2 is the short version
	$(BIN)/python -m benchmarks soak $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

fix: setup  ## format, and mend what the linter can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

docs: setup  ## write the generated pages of docs/reference, helm/ and manifests/ again
	$(BIN)/python -m script_runner.operator.crd
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python docs/generate_chart.py

LOCK := --universal --generate-hashes --no-header --no-annotate --quiet
lock:  ## work out constraints*.txt again (needs uv); UPGRADE=1 for the newest versions
	uv pip compile $(LOCK) pyproject.toml --group build --group dev --extra s3 --extra operator $(if $(UPGRADE),--upgrade) -o constraints.txt
	@# For the image, of the same versions: what it holds, and what builds its wheel.
	uv pip compile $(LOCK) pyproject.toml --extra s3 --extra operator --constraint constraints.txt -o constraints-image.txt
	uv pip compile $(LOCK) --group pyproject.toml:build --constraint constraints.txt -o constraints-build.txt

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
