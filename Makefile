# Every command of the project. `make help` lists them; logic lives in the tools, not here.
PYTHON ?= python3
BIN := .venv/bin
CONTAINER_TOOL ?= $(shell command -v docker || command -v podman)
IMAGE ?= carillon
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)
PARALLEL = -n $(or $(WORKERS),logical) --dist loadscope
PUSHED = $(REGISTRY:/=)/$(IMAGE)
DOCKERFILE = docker/Dockerfile
PUSH = push
INSTALL = helm install carillon helm/carillon --set image.repository=$(PUSHED)$(if $(filter $(VERSION),$(TAG)),, --set image.tag=$(TAG)) --set host=chat.example.org
LOAD = DOCKERFILE=docker/load.Dockerfile IMAGE=$(IMAGE)-load PUSH=push-load-image INSTALL="helm upgrade carillon helm/carillon --reset-then-reuse-values --set loadTest.enabled=true --set settings.MARKERS_ALLOWED=true"
.DEFAULT_GOAL := help
.PHONY: help setup run status kill-node drain-node start-node failover clean-data bench loadtest image push load-image push-load-image package push-chart compose-env test test-browser test-monitoring test-chart test-image test-load test-load-all test-failure test-failure-all test-failure-planted chart-docs check fmt lock test-cluster test-cluster-all

help: ## this list
	@awk -F':.*## ' '/^##/ {printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## / {printf "  \033[36m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/python: ## the virtual environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "carillon: needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: PYTHON=python3.12 make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv && touch $@

.venv/run: .venv/python requirements/run.txt
	@echo "installing what the application needs (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt && touch $@

.venv/dev: .venv/run requirements/dev.txt
	@echo "installing what tests and checks need (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt && touch $@

.venv-load/load: requirements/load.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "carillon: needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)"; exit 1; }
	@echo "installing what load tests need (once)"
	@$(PYTHON) -m venv .venv-load && .venv-load/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/load.txt && touch $@

## See it run
run: .venv/run ## Redis, Sentinels and NODES=3 nodes on PORT=8000; Ctrl-C ends them
	@$(BIN)/python -m deploy.local run

status: .venv/run ## what runs where
	@$(BIN)/python -m deploy.local status

kill-node: .venv/run ## kill -9 one node, as N=2
	@$(BIN)/python -m deploy.local kill-node $(N)

drain-node: .venv/run ## SIGTERM to one node, as N=2: it hands its people over
	@$(BIN)/python -m deploy.local drain-node $(N)

start-node: .venv/run ## start it again, as N=2
	@$(BIN)/python -m deploy.local start-node $(N)

failover: .venv/run ## make the Redis replica the primary
	@$(BIN)/python -m deploy.local failover

clean-data: .venv/run ## forget accounts, rooms and messages of the runs so far
	@$(BIN)/python -m deploy.local clean-data

## Work on it
setup: .venv/dev ## virtual environment with everything

test: .venv/dev ## unit and integration tests, with real Redis, Sentinels and PostgreSQL; WORKERS=1 for one after the other
	env -u DATABASE_URL $(BIN)/python -m pytest $(PARALLEL) tests/integration tests/unit --ignore tests/integration/database
	$(BIN)/python -m tests.on_postgresql $(PARALLEL) tests/unit/accounts tests/unit/chat tests/unit/database tests/unit/serving/test_witness.py tests/unit/journal tests/integration/database

test-monitoring: .venv/dev ## metrics, alerts and dashboard, with a real Prometheus that looks at three nodes (needs prometheus)
	$(BIN)/python -m pytest tests/monitoring

test-browser: .venv/dev ## two real browsers on two nodes (needs Chromium)
	$(BIN)/python -m pytest tests/browser

test-failure: .venv/dev ## killed nodes, failovers, a lying bus: nothing lost, doubled or out of order; SEED=1 plays a run again
	$(BIN)/python -m pytest tests/failure $(if $(ONLY),-k "$(ONLY)")

test-failure-all: .venv/dev ## every scenario on every database, ROUNDS=3, the control, the planted faults, on WORKERS=3; SAVE=1 keeps the table
	FAILURE=all ROUNDS=$(or $(ROUNDS),3) SAVE=$(SAVE) $(BIN)/python -m tests.failure.own_network tests/failure $(if $(ONLY),-k "$(ONLY)")

test-failure-planted: .venv/dev ## the checker sees each fault that is planted into the nodes
	FAILURE=planted $(BIN)/python -m tests.failure.own_network tests/failure/test_planted.py $(if $(ONLY),-k "$(ONLY)")

test-load: .venv/dev .venv-load/load ## what is broken on purpose fails a load test, by name
	$(BIN)/python -m pytest tests/load

test-load-all: .venv/dev .venv-load/load ## every planted fault, each alone
	LOAD=all $(BIN)/python -m pytest tests/load

test-image: .venv/dev ## the image, built and run (needs docker or podman)
	$(BIN)/python -m pytest tests/cluster/test_image.py

test-chart: .venv/dev ## the Helm chart, without a cluster (needs helm, its unittest plugin, kubeconform, helm-docs, skaffold)
	$(BIN)/python -m pytest tests/chart

test-cluster: .venv/dev ## a release's life on a cluster: KUBE_CONTEXT=… REGISTRY=… (or IMAGE=pushed:tag) INGRESS=http://127.0.0.1:8080 GATEWAY=namespace/name
	$(BIN)/python -m pytest tests/cluster/test_life.py

test-cluster-all: .venv/dev ## all of tests/cluster: production, failing migrations, no host, one node …; SAVE=1 keeps the figures
	$(BIN)/python -m pytest tests/cluster

bench: .venv/dev ## what it can do, against a bare send loop and stock Channels: ONLY=fanout ROUNDS=7 CONNECTIONS=1000 IDLE=10000 SECONDS=5 SAVE=1
	@$(BIN)/python -m loadtest.bench $(foreach figure,$(ONLY),--only $(figure)) $(if $(SAVE),--save) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(if $(IDLE),--idle $(IDLE)) $(if $(SECONDS),--seconds $(SECONDS))

loadtest: .venv/run .venv-load/load ## the proof that nodes hear each other, by Locust: SCENARIO=cross_node USERS=150 STEADY=30 PROCESSES=2 WEB=1
	@$(BIN)/python -m loadtest.local $(or $(SCENARIO),cross_node)

check: .venv/dev ## format, lint, types, import ladder, duplicated code, Dockerfile, shell scripts, compose file, documentation
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy app deploy loadtest tests
	$(BIN)/lint-imports --no-logo
	$(BIN)/pylint --score=n app deploy loadtest tests
	$(BIN)/hadolint docker/Dockerfile docker/load.Dockerfile
	$(BIN)/shellcheck --external-sources helm/carillon/files/valkey/*.sh loadtest/disturbances/*
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/python -m pytest -q tests/unit/test_docs.py tests/unit/test_repository.py
	$(BIN)/python -m pytest -q tests/integration/database/test_expand_and_contract.py

chart-docs: ## the chart's README.md from its values.yaml (needs helm-docs)
	helm-docs --chart-search-root helm/carillon --sort-values-order file --log-level warning

fmt: .venv/dev ## format, and mend what the linter can
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format --quiet .

lock: .venv/dev ## compile requirements/*.txt, with hashes and without addresses
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/app.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/app.txt requirements/reload.in -o requirements/reload.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/app.txt -c requirements/reload.txt --extra traces pyproject.toml -o requirements/traces.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/app.txt pyproject.toml requirements/run.in -o requirements/run.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/run.txt -c requirements/traces.txt --extra traces pyproject.toml requirements/run.in requirements/dev.in -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url requirements/load.in -o requirements/load.txt

## Ship it
image: ## the container image, as IMAGE=carillon TAG=(the version); TARGET=dev is the one that follows edits, TRACES=1 can trace
	@$(if $(CONTAINER_TOOL),,echo "carillon: needs docker or podman; CONTAINER_TOOL=... names another" >&2; exit 1)
	$(CONTAINER_TOOL) build --file $(DOCKERFILE) --target $(or $(TARGET),runtime) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git describe --always --dirty --abbrev=40 --exclude '*')$(if $(TRACES), --build-arg REQUIREMENTS=traces) --tag $(IMAGE):$(TAG) .
	@echo "carillon: built $(IMAGE):$(TAG)$(if $(REGISTRY),,. Next: make $(PUSH) REGISTRY=registry.example.org/you)"

push: ## build the image and push it to REGISTRY=registry.example.org/you
	@$(if $(REGISTRY),,echo "carillon: make $(PUSH) needs to know where to: REGISTRY=localhost:5000 or REGISTRY=registry.example.org/you" >&2; exit 1)
	@$(MAKE) --no-print-directory image
	$(CONTAINER_TOOL) tag $(IMAGE):$(TAG) $(PUSHED):$(TAG)
	$(CONTAINER_TOOL) push $(PUSHED):$(TAG)
	@echo "carillon: pushed $(PUSHED):$(TAG). Next: $(INSTALL)"
	@echo "carillon: machines keep the image that they have under a tag: push a change under another, with TAG=..."

load-image: ## the image of load tests, as IMAGE=carillon and -load behind it
	@$(MAKE) --no-print-directory image $(LOAD)

push-load-image: ## build it and push it to REGISTRY, beside the other
	@$(MAKE) --no-print-directory push $(LOAD)

package: ## the chart as an archive in dist/ (needs helm)
	helm package helm/carillon --destination dist

push-chart: package ## the chart to oci://REGISTRY, beside the image; PLAIN_HTTP=1 where the registry has no TLS
	@$(if $(REGISTRY),,echo "carillon: make push-chart needs to know where to: REGISTRY=localhost:5000 or REGISTRY=registry.example.org/you" >&2; exit 1)
	helm push dist/carillon-$(VERSION).tgz oci://$(REGISTRY:/=)/charts $(if $(PLAIN_HTTP),--plain-http)

compose-env: ## passwords and keys for docker/compose.yaml, drawn once (docs/compose.md)
	@sh docker/compose/make-env.sh
