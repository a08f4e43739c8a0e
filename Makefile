# make demo   a new machine to a tested classifier: environment, install, demo corpus, training, report
# make test   environment, install, all checks and tests
# make clean  remove what these make

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test check clean

demo: $(VENV)/demo.done
	$(BIN)/langid-train demo --arch resnet18 --weights none

test: check
	$(BIN)/pytest -n $(JOBS)

# Style and types, as part of the tests.
check: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[demo]'
	touch $@

$(VENV)/test.done: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[test]'
	touch $@
