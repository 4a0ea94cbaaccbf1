# make env: .venv with the locked packages; make train: the main job; make test: the tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: env train test test-all test-oldest test-newest test-pythons lint lock benchmarks

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "python3 is not on PATH; install Python 3.11 or later"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; run make with PYTHON=/path/to/a/newer/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

train: env
	$(BIN)/metastar train --config=configs/metastar.py:point_robot_sparse,quick \
		--workdir=runs/point_robot_sparse_quick

# Two workers: most of the time goes into compiling, which one process does on one core.
test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow"

# What pyproject.toml admits at either end, and the Pythons between. Each needs uv on PATH and makes
# an environment of its own; uv finds the Pythons that are installed.
test-oldest:
	$(call environment,.venv-oldest,3.11,lowest-direct)
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile

test-newest:
	$(call environment,.venv-newest,3.13,highest)
	.venv-newest/bin/python -m pytest -n 2 --dist loadfile

# The tests that compile little: a few minutes for each Python.
FAST := tests/config tests/data tests/losses tests/models tests/ops \
	tests/test_files.py tests/test_floors.py tests/test_loading.py

test-pythons:
	for version in 3.11 3.12 3.13; do \
		$(call environment,.venv-$$version,$$version,highest) && \
		.venv-$$version/bin/python -m pytest -n 2 --dist loadfile $(FAST) || exit; \
	done

define environment
uv venv --quiet --seed --allow-existing --python $(2) $(1) && \
	uv pip install --quiet --python $(1) --resolution $(3) --editable ".[dev,analysis]"
endef

# About fifty minutes on two idle cores.
benchmarks: env
	$(BIN)/python experiments/benchmarks.py

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Needs uv on PATH. The lock serves Python 3.11 and later; markers tell versions apart.
lock:
	uv pip compile --universal --python-version 3.11 --extra dev --extra analysis \
		--no-header --no-annotate --quiet --upgrade --output-file requirements.lock pyproject.toml
