# Needs Python 3.11 or newer and make; everything else is installed into .venv, once.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint fuzz grids proofs install

SECONDS := 60

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzzing $(SECONDS) fuzz-findings
	$(BIN)/python tests/fuzzing/twins.py $(SECONDS) fuzz-findings
	$(BIN)/python tests/fuzzing/batches.py $(SECONDS) fuzz-findings
	$(BIN)/python tests/fuzzing/contracts.py $(SECONDS) fuzz-findings
	$(BIN)/python tests/fuzzing/pairs.py $(SECONDS)
	$(BIN)/python tests/fuzzing/unsafe.py $(SECONDS) fuzz-findings
	$(BIN)/python tests/fuzzing/files.py --seconds $(SECONDS) --keep fuzz-findings/files

grids: $(INSTALLED)
	$(BIN)/python tests/grids 500 0

proofs: $(INSTALLED)
	$(BIN)/python proofs/check.py

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "refine needs Python 3.11 or newer; say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
