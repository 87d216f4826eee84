# train: set up what is missing, then train the quickstart.   test: set up, then ruff and pytest.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test
train: .venv/installed
	$(BIN)/sagan train quickstart

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The wheels of torch are large: quiet, and only when pyproject.toml has changed.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,offline,ray]'
	touch $@
