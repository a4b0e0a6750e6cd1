# `make help` lists the targets. What they do is in deploy/local: setup (packages, .venv) and stack/ (the servers).

SHELL := /bin/bash
BIN := .venv/bin
export PYTHONPATH := deploy/local
# Who sets this (many images do) would compile all libraries anew for each process: 2 s of CPU instead of 0.5.
unexport PYTHONDONTWRITEBYTECODE
STACK := $(BIN)/python -m stack

.DEFAULT_GOAL := help
.PHONY: help run up down demo test suite fuzz browser screenshots live chaos mutation-run lint audit bench fairness format lock setup setup-test

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

run: setup ## the whole stack in the foreground, with the demo job; Ctrl-C stops it
	@$(STACK) run

up: setup ## the stack in the background; returns when it is ready
	@$(STACK) up

down: ## stop it, also when its supervisor was killed
	@if [ -x $(BIN)/python ]; then $(STACK) down; else echo "nothing runs"; fi

demo: setup ## the demo job, on a running stack
	@$(STACK) demo

test: setup-test ## lint, types, and all tests, on servers that they start themselves
	@$(MAKE) --no-print-directory --jobs=2 lint suite

suite: setup-test ## the tests alone
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --timeout 300 -m 'not slow and not fuzz'

fuzz: setup-test ## schemathesis for five minutes: requests out of the OpenAPI document, on a real service
	@$(BIN)/pytest -m fuzz

browser: setup-test ## all of the dashboard's tests in Chromium; `make test` has a short form
	@$(BIN)/pytest -n 2 --dist loadfile tests/dashboard

screenshots: setup-test ## take the pictures of docs/images anew, from a running stack; SCREENSHOTS="--all DIRECTORY" for every view
	@PYTHONPATH=.:deploy/local $(BIN)/python -m tests.dashboard.screenshots $(SCREENSHOTS)

live: setup-test ## live updates at full size: 500 sockets over a restart of Redis, 2,000 on one process
	@$(BIN)/pytest tests/live

chaos: setup-test ## break a whole service for SECONDS (60), by the schedule of SEED, and judge what it did
	@PYTHONPATH=.:deploy/local $(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

mutation-run: setup-test ## switch off one guard at a time, and see that chaos finds it; MUTATE=name for one
	@PYTHONPATH=.:deploy/local $(BIN)/python -m tests.chaos.mutations $(MUTATE)

lint: setup ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: setup ## known vulnerabilities of the locked packages, by pip-audit; asks PyPI, so it needs the network
	@$(BIN)/python deploy/local/run_uv.py tool run --from 'pip-audit>=2.10,<3' \
	  pip-audit --requirement requirements.lock --disable-pip --require-hashes --strict --progress-spinner off

bench: setup ## beside the peers of ../shared/bench, as ratios (benchmarks/bench.py; half an hour); BENCH="--only drain"
	@$(BIN)/python benchmarks/bench.py $(BENCH)

fairness: setup ## one caller floods at ten times its limit while another works (benchmarks/fairness.py, four minutes)
	@$(BIN)/python benchmarks/fairness.py

format: setup ## put the source into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: setup ## write requirements.lock anew; UPGRADE=1 takes the newest of everything
	@# Only from the main index: another one may hold fewer files, and the lock needs the hashes of all.
	@UV_INDEX= UV_FIND_LINKS= $(BIN)/python deploy/local/run_uv.py pip compile pyproject.toml deploy/local/tools.in \
	  --extra report --extra demo --extra postgres --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --quiet --output-file requirements.lock $(if $(UPGRADE),--upgrade)

setup: ## install what is missing (all others call it)
	@deploy/local/setup

setup-test: setup ## the same, and PostgreSQL and Chromium for the tests
	@deploy/local/setup test
