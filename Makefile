# Everything a person or CI does with this checkout. `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DIGITS := .conveyor/digits
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 2
IMAGE ?= conveyor:cpu
IMAGE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-containers test-cluster image image-cuda image-mpi image-mpi-cuda images-pin sbom audit lint format bench doctor clean chart kind-up kind-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv (packages, Horovod's wheel, this project); ends at once when nothing changed
	@$(PYTHON) tools/bootstrap.py --venv $(VENV)

demo: setup ## the whole pipeline on the example data: ends with accuracy, compressed model, promoted version, report
	@test -d $(DIGITS) || $(BIN)/conveyor example digits $(DIGITS)
	@$(BIN)/conveyor run -f examples/digits.yaml

test: setup ## fast and integration tests (PYTEST_ARGS="-k store" narrows)
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-slow: setup ## tests that take more than half a minute each
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-containers: setup ## the images, built first where they are not: needs a Docker engine
	@$(BIN)/python -m pytest -m containers $(PYTEST_ARGS)

test-cluster: setup ## a real Kubernetes: KUBECONFIG names it, and it knows the images conveyor:cpu and conveyor:mpi
	@$(BIN)/python -m pytest -m cluster -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

image: ## conveyor:cpu (IMAGE_ARGS="--build-arg BASE=…", docs/images.md)
	@$(PYTHON) tools/images/build.py cpu $(IMAGE_ARGS)

image-cuda: ## conveyor:cuda, with Horovod over NCCL
	@$(PYTHON) tools/images/build.py cuda $(IMAGE_ARGS)

image-mpi: ## conveyor:mpi, for an MPIJob: conveyor:cpu and an ssh server
	@$(PYTHON) tools/images/build.py mpi $(IMAGE_ARGS)

image-mpi-cuda: ## conveyor:mpi-cuda, for an MPIJob on GPUs: conveyor:cuda and an ssh server
	@$(PYTHON) tools/images/build.py mpi-cuda $(IMAGE_ARGS)

images-pin: ## write docker/bases.lock: the digests of the base images, as the registry has them now
	@$(PYTHON) tools/images/pin.py

sbom: ## what IMAGE contains, as SPDX JSON in build/ (needs syft)
	@$(PYTHON) tools/images/sbom.py $(IMAGE)

audit: ## look every version of constraints.txt up in PyPI's vulnerability database
	@$(PYTHON) tools/images/audit.py $(AUDIT_ARGS)

lint: setup ## ruff and mypy, as CI runs them
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy components pipelines tools tests $(wildcard benchmarks) || status=1; \
	exit $$status

format: setup ## rewrite the files as lint wants them, as far as ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## run every benchmark; each prints its ratio, measured in the same run
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

chart: setup ## write the chart's README and schema from its values and the settings (make test compares them)
	@$(BIN)/python tools/chart.py

kind-up: setup ## a local Kubernetes with kind, Conveyor and MinIO in it, and the example run there (docs/kubernetes/local-cluster.md)
	@$(BIN)/python tools/local_cluster.py up

kind-down: setup ## that cluster away, results and all
	@$(BIN)/python tools/local_cluster.py down

doctor: setup ## what this machine can and cannot do, with the cures
	@$(BIN)/conveyor doctor

clean: ## remove the example's data and store, and the tools' caches (not .venv)
	rm -rf .conveyor .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +
