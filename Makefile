# `make help` says what each target does. Nothing is needed beforehand but Python 3.11 or later, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FROM ?= $(wildcard ../shared/data/$(if $(filter check-cifar10,$(MAKECMDGOALS)),cifar10,imagenet_published))
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro dashboard test check check-imagenet check-cifar10 benchmarks clean

help:  ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install the locked versions (once; again only when they change)
	@git config merge.dvc.driver '$(BIN)/dvc git-hook merge-driver --ancestor %O --our %A --their %B' 2>/dev/null || true

$(STAMP): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $@

repro: setup  ## rebuild every result from the data and print the headline table
	@start=$$(date +%s) && dvc pull --quiet data.dvc && dvc repro && bench report --times && \
	  echo "make repro took $$(($$(date +%s) - start)) s after setup."

dashboard: setup  ## show the results (released ones are pulled if nothing was computed here)
	bench serve

test: check  ## everything: format, lint, types, unit, pipeline and browser tests, on up to 4 cores
	pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

check: setup  ## format, lint and types only
	ruff format --check .
	ruff check .
	pyright

check-imagenet: setup  ## add 67 published ImageNet models to this clone's params.yaml, compute, compare known figures (FROM=DIR: local data)
	dvc pull --quiet
	bench preset add imagenet
	bench data fetch imagenet $(if $(FROM),--from "$(FROM)")
	dvc repro
	bench report
	python -m bench.presets.check imagenet

check-cifar10: setup  ## the same with CIFAR-10, half a million votes of people on it, and four published networks
	dvc pull --quiet
	bench preset add cifar10
	bench preset add cifar10-resnets
	bench data fetch cifar10 $(if $(FROM),--from "$(FROM)")
	bench data fetch cifar10-resnets $(if $(FROM),--from "$(FROM)_resnets")
	dvc repro
	python -m bench.presets.check cifar10
	python -m bench.presets.check cifar10-resnets

benchmarks: setup  ## measure speed and memory against peers, written to benchmarks/results/
	python -m benchmarks

clean:  ## remove results and caches (data and released snapshots stay)
	rm -rf results .cache .snapshots .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find bench dashboard tests benchmarks -name __pycache__ -type d -exec rm -rf {} +
