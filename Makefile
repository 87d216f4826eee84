# Each target sets up what it needs, from a bare checkout.
#
#   train   train the quickstart          docs    build the API reference in build/docs
#   test    lint, then run the tests      wheel   build the wheel and the source archive in dist
#   lint    check style and format        types   check types
#   test-gpu   test, measure and train on a GPU, and write a report (DEVICE=cpu: what needs no GPU)
PYTHON ?= python3
BIN = .venv/bin
DEVICE ?= cuda

# Tests start more than a hundred processes: with this variable each would compile this program anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: train test test-gpu lint types docs wheel
train: .venv/installed
	$(BIN)/sagan train quickstart

test: lint types
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-gpu: .venv/installed
	$(BIN)/python experiments/gpu/check.py --device $(DEVICE)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# The variable keeps pyright from asking the network for a newer version of itself.
types: .venv/installed
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/installed
	$(BIN)/python docs/reference.py build/docs

wheel: .venv/installed
	$(BIN)/python -m hatchling build --directory dist

# The wheels of torch are large: quiet, and only when pyproject.toml has changed. pip would compile all modules with a
# single process, and many of them are never imported.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev,offline,ray,onnx,hub]'
	$(BIN)/python -m compileall -qq --workers 0 -x '/(tests|ray|sympy|pandas)/' .venv/lib || true  # some packages hold files that no Python 3 reads
	touch $@
