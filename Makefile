# What a contributor runs. `make setup` first; every other target does it when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODEL := models/smollm2-135m-instruct

.PHONY: setup model demo test lint bench
.DELETE_ON_ERROR:

setup: $(READY)

# Redone when pyproject.toml changes; pip finds what is already installed. Most of the modules that
# come along are never imported: those that are, Python compiles then.
$(READY): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[compile,triton,cuda,dev,models]'
	touch $@

model: $(MODEL)/config.json

$(MODEL)/config.json: | $(READY)
	$(BIN)/python examples/fetch_smollm2.py $(MODEL)

demo: $(MODEL)/config.json
	$(BIN)/python examples/demo.py $(MODEL)

test: $(MODEL)/config.json
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20
	$(BIN)/lit --workers 2 --succinct tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(MODEL)/config.json
	$(BIN)/python benchmarks/dense.py $(MODEL)
