# Targets for people: run, test, check, screenshots, bench. Everything lives in .venv.
PYTHON ?= $(firstword $(shell command -v python3.13 python3.12 python3.11 python3 2>/dev/null))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check format screenshots bench test-tools clean

run: $(STAMP)
	@$(BIN)/lamella $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

screenshots: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.screenshots

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks $(ARGS)

# What the tests like to have: other tools that make images, for comparison.
test-tools:
	apt-get update -q
	apt-get install -y -q --no-install-recommends buildah skopeo umoci debootstrap mmdebstrap \
	  busybox-static docker-registry uidmap podman runc crun conmon libseccomp2 strace tmux attr zstd

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lamella needs Python 3.11 or newer; PYTHON=... names one" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(STAMP): pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
