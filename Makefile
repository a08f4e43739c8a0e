# make demo   a new machine to a tested classifier: environment, install, demo corpus, training, report
# make test   environment, install, all checks and tests
# make bench  environment, install, all benchmarks; writes benchmarks/RESULTS.md (half an hour)
# make soak   kills export, training, crawl and what makes corpora, 30 times each (half an hour)
# make fuzz   exports 20 000 damaged recordings; FUZZ_SEED=1 for others (half an hour)
# make clean  remove what these make

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
FUZZ_SEED ?= 0

.PHONY: demo test check bench soak fuzz clean

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

bench: $(VENV)/test.done
	$(BIN)/python benchmarks/run_all.py

# The counts of kills are printed.
soak: $(VENV)/test.done
	nice -n 15 $(BIN)/pytest -n 0 -q -s tests/test_killed.py --kills 30

fuzz: $(VENV)/test.done
	nice -n 15 $(BIN)/pytest -n 0 -q -s tests/test_fuzz.py --fuzz 20000 --fuzz-seed $(FUZZ_SEED)

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
