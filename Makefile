# Hardcase: one file of commands. `make help` lists them.
#
# Every target sets up .venv first; a stamp on constraints.txt and pyproject.toml keeps pip out of the way when nothing
# changed. Variables to set on the command line or in the environment:
#   PYTHON     interpreter that makes .venv (must be Python 3.11: the pins are resolved for it)
#   PIP_ARGS   extra arguments for pip, e.g. an index of CPU-only torch wheels
#   WORKERS    processes for the tests that share a machine well (default 2)
#   ARGS       extra arguments for the command of a target, e.g. make test ARGS="-x tests/records"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PYTHON ?=
PIP_ARGS ?=
WORKERS ?= 2
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export RAY_USAGE_STATS_ENABLED := 0
export DO_NOT_TRACK := 1

PACKAGES := export serving monitoring deploy
CODE := $(PACKAGES) tests benchmarks

.PHONY: help setup up down status demo test test-slow check format bench bench-peers fuzz clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv from constraints.txt (nothing to do when it is current)

# `exec` hands the terminal's Ctrl-C to hardcase itself, which stops everything it started.
up: $(STAMP) ## train and export the demo model if needed, serve, monitor; Ctrl-C stops
	@exec $(BIN)/hardcase up $(ARGS)

down: $(STAMP) ## stop a running `make up` from another terminal
	@exec $(BIN)/hardcase down $(ARGS)

status: $(STAMP) ## what runs, where, and how it is
	@exec $(BIN)/hardcase status $(ARGS)

demo: $(STAMP) ## the whole story: shift, alarm, labels, training, gate, roll-out; beside a running `up`, or alone
	@exec $(BIN)/hardcase demo $(ARGS)

# Two halves: what shares a machine well goes to two workers, a file at a time; what starts a Ray cluster, or kills and
# times processes, has the machine to itself afterwards. No test of a half chosen by ARGS is no failure.
test: $(STAMP) ## all tests but the slow ones
	@status=0
	$(BIN)/pytest -q --durations=30 --durations-min=6 -n $(WORKERS) --dist loadfile -m "not slow and not ray and not fault" $(ARGS) || status=$$?
	[ $$status -eq 0 ] || [ $$status -eq 5 ] || failed=1
	status=0
	$(BIN)/pytest -q --durations=30 --durations-min=6 -m "not slow and (ray or fault)" $(ARGS) || status=$$?
	[ $$status -eq 0 ] || [ $$status -eq 5 ] || failed=1
	exit $${failed:-0}

test-slow: $(STAMP) ## the slow tests: full fault enumerations, long fuzzing
	@exec $(BIN)/pytest -q -m slow --timeout 3600 $(ARGS)

check: $(STAMP) ## ruff, formatting, mypy strict, layering
	@$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/pytest -q tests/architecture

format: $(STAMP) ## let ruff fix and format
	@$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP) ## measure against the peers; tables go to benchmarks/README.md
	@exec $(BIN)/python -m benchmarks.serving $(ARGS)

bench-peers: $(STAMP) ## make the peers' environments under .venvs/
	@exec $(BIN)/python -m benchmarks.peers.setup $(ARGS)

fuzz: $(STAMP) ## coverage-guided fuzzing of the request parser
	@exec $(BIN)/python -m benchmarks.fuzz_parser $(ARGS)

clean: ## remove caches and build products; keeps .venv and .hardcase
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info.tmp
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove the environments; .hardcase (registry, records) stays
	@rm -rf .venv .venvs

$(STAMP): constraints.txt pyproject.toml
	@python="$$(bash deploy/find_python.sh $(PYTHON))"
	test -x $(BIN)/python || "$$python" -m venv $(VENV)
	started=$$SECONDS
	echo "Setting up $(VENV) with $$("$$python" -V) (a few minutes with an empty package cache) ..."
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt "setuptools>=77" "$$(grep -E '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@
	echo "$(VENV) is ready after $$((SECONDS - started)) s."
