# Every command of the project. `make help` lists them; logic lives in the tools, not here.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup run status kill-node start-node failover clean-data bench test test-browser test-failure check fmt lock

help: ## this list
	@awk -F':.*## ' '/^##/ {printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## / {printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/python: ## the virtual environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "carillon: needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: PYTHON=python3.12 make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv && touch $@

.venv/run: .venv/python requirements/run.txt
	@echo "installing what the application needs (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt && touch $@

.venv/dev: .venv/run requirements/dev.txt
	@echo "installing what tests and checks need (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt && touch $@

## See it run
run: .venv/run ## Redis, Sentinels and NODES=3 nodes on PORT=8000; Ctrl-C ends them
	@$(BIN)/python -m deploy.local run

status: .venv/run ## what runs where
	@$(BIN)/python -m deploy.local status

kill-node: .venv/run ## kill -9 one node, as N=2
	@$(BIN)/python -m deploy.local kill-node $(N)

start-node: .venv/run ## start it again, as N=2
	@$(BIN)/python -m deploy.local start-node $(N)

failover: .venv/run ## make the Redis replica the primary
	@$(BIN)/python -m deploy.local failover

clean-data: .venv/run ## forget accounts, rooms and messages of the runs so far
	@$(BIN)/python -m deploy.local clean-data

## Work on it
setup: .venv/dev ## virtual environment with everything

test: .venv/dev ## unit and integration tests, with real Redis and Sentinels
	$(BIN)/python -m pytest tests/unit tests/integration

test-browser: .venv/dev ## two real browsers on two nodes (needs Chromium)
	$(BIN)/python -m pytest tests/browser

test-failure: .venv/dev ## killed nodes, Redis failovers, clients that stop reading
	$(BIN)/python -m pytest tests/failure

bench: .venv/run ## what it can do, against a bare send loop and stock Channels: ONLY=fanout ROUNDS=7 CONNECTIONS=1000 IDLE=10000 SAVE=1
	@$(BIN)/python -m loadtest.bench $(foreach figure,$(ONLY),--only $(figure)) $(if $(SAVE),--save) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(if $(IDLE),--idle $(IDLE))

check: .venv/dev ## format, lint, types, import ladder, duplicated code, documentation
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy app deploy loadtest tests
	$(BIN)/lint-imports --no-logo
	$(BIN)/pylint --score=n app deploy loadtest tests
	$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_repository.py

fmt: .venv/dev ## format, and mend what the linter can
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format --quiet .

lock: .venv/dev ## compile requirements/*.txt, with hashes and without addresses
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/app.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/app.txt pyproject.toml requirements/run.in -o requirements/run.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/run.txt pyproject.toml requirements/run.in requirements/dev.in -o requirements/dev.txt
