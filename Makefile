# Targets for people: run, test, check, screenshots, bench. Everything lives in .venv.

# The first Python that is new enough and can make a virtual environment. Each candidate is asked,
# because a version manager may have a shim on the path for a version that is not there.
CANDIDATES := python3.13 python3.12 python3.11 python3.14 python3 /usr/bin/python3
PYTHON ?= $(shell for name in $(CANDIDATES); do \
  "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && { echo "$$name"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test compare-builders check format screenshots bench test-tools clean

run: $(STAMP)
	@$(BIN)/lamella $(ARGS)

test: $(STAMP_DEV)
	@$(BIN)/python -m pytest -n auto $(ARGS)

# Every Dockerfile of the tests, with buildah and Docker's BuildKit; `test` has buildah build some.
compare-builders: $(STAMP_DEV)
	@$(BIN)/python -m pytest --peers=all \
	  tests/integration/build/test_dockerfiles.py tests/integration/build/test_large_dockerfiles.py $(ARGS)

check: $(STAMP_DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP_DEV)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

screenshots: $(STAMP_DEV)
	@$(BIN)/python -m tests.screenshots

bench: $(STAMP_DEV)
	@$(BIN)/python -m benchmarks $(ARGS)

# What the tests like to have: other tools that make images, for comparison.
test-tools:
	apt-get update -q
	apt-get install -y -q --no-install-recommends buildah skopeo umoci docker.io debootstrap mmdebstrap \
	  busybox-static docker-registry openssl uidmap podman runc crun conmon libseccomp2 strace tmux attr zstd \
	  vim htop less procps bash-completion golang-github-opencontainers-image-spec-dev passt slirp4netns \
	  iproute2 iptables nftables

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Error: Lamella needs Python 3.11 or newer with its venv module" >&2; \
	  echo "hint: on Debian and Ubuntu: apt install python3-venv; PYTHON=... names another Python" >&2; \
	  exit 1; \
	fi
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(STAMP_DEV): pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
