# make env: .venv with the locked packages; make train: the main job; make test: the tests.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: env train test test-all lint lock benchmarks

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
