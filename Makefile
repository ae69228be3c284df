# `make help` lists the targets.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tools of the environment come first, for the hooks too.
export PATH := $(CURDIR)/$(BIN):$(PATH)

CPUS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
ifeq ($(CPUS),1)
WORKERS :=
else
WORKERS := -n 2 --dist worksteal # neighbours, which share fixtures, stay in one process
endif

# Two test processes with one thread each: more threads than cores slow torch down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest

# torch is held at the version the golden figures were measured with. typing is an old back-port that
# cityscapesscripts (extra dev) asks for; its later versions do not install on Python 3.
PINS := torch==2.13.0 typing==3.7.4.3

.DEFAULT_GOAL := help
.PHONY: help venv demo test docs torture golden bench gpu wheels fuzz lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv and install the package and its tools into it

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || \
		{ echo "$(PYTHON) is not found; install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1); adaptseg needs Python 3.10 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing adaptseg and its tools into $(VENV); this takes a minute or more."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

demo: $(STAMP) ## train with and without adaptation on the embedded streets and compare
	$(BIN)/adaptseg compare streets-best-source streets-best --out runs/demo

test: $(STAMP) ## every check: the hooks (ruff, mypy, codespell), then the tests
	$(BIN)/pre-commit run --all-files
	$(PYTEST) $(WORKERS)

docs: $(STAMP) ## build the pages of docs/ into site/; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

torture: $(STAMP) ## kill trainings 74 times, damage checkpoints, resume, compare bit for bit; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture --kills 50 --ranks 24 --damages 10

golden: $(STAMP) ## only the tests against figures of the authors' released code
	$(PYTEST) -m golden

bench: $(STAMP) ## time the training step, evaluation and input against plain code; up to 10 minutes and 10 GB
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --threads 1 --json runs/bench.json

gpu: ## measure everything on a CUDA device, with the Python that has torch; under 8 minutes; figures: runs/gpu.json
	PYTHONPATH=src "$(PYTHON)" -m benchmarks.gpu

wheels: $(STAMP) ## fetch into wheels/ what `make gpu` needs beside torch, for a machine without internet
	$(BIN)/python -m benchmarks.gpu.wheels

fuzz: $(STAMP) ## 10000 damaged inputs through the readers; what goes wrong is kept in runs/fuzz-failures
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --inputs 10000 --seed 0

lint: $(STAMP) ## the hooks alone: ruff, mypy, codespell
	$(BIN)/pre-commit run --all-files

format: $(STAMP) ## rewrite the Python files as ruff wants them, and the README's tree of files
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/python docs/readme_tree.py

lock: ## write constraints.txt anew (needs uv)
	@command -v "$(UV)" >/dev/null 2>&1 || \
		{ echo "uv is not found; install it (pip install uv) or name it: make lock UV=/path/to/uv" >&2; exit 1; }
	printf '%s\n' $(PINS) | "$(UV)" pip compile --quiet --upgrade --universal --python-version 3.10 \
		--extra dev --no-annotate --custom-compile-command 'make lock' \
		--output-file constraints.txt pyproject.toml -

clean: ## remove the environment, caches and builds; runs/ and data/ stay
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
