# make demo     a new machine to a tested classifier: environment, install, demo corpus, training, report;
#               REAL_SPEECH=folder also tests it on real recordings of its languages
# make test     environment, install, all checks and tests
# make site     environment, install, the documentation, in site/
# make bench    environment, install, all benchmarks; writes benchmarks/RESULTS.md (an hour)
# make soak     kills export, training, crawl and what makes corpora, 30 times each (half an hour)
# make fuzz     exports 20 000 damaged recordings; FUZZ_SEED=1 for others (half an hour)
# make versions install with the base requirements and use it, on each Python that is found
# make release  everything for a release but the upload: checks, tests, sdist and wheel
# make clean    remove what these make

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
FUZZ_SEED ?= 0
# Few epochs are enough for synthetic speech; a schedule for real speech has 7,12,8.
DEMO_OPTIONS ?= --epochs 7,2,8
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: demo test check site bench soak fuzz versions dist release clean

demo: $(VENV)/demo.done
	$(BIN)/langid-train demo --arch speech_embedding --cache-frozen $(DEMO_OPTIONS)
	$(if $(REAL_SPEECH),$(BIN)/langid evaluate runs/demo --corpus $(REAL_SPEECH))

# A file's tests run in one process, so that its fixtures are made once.
test: check
	$(BIN)/pytest -n $(JOBS) --dist loadfile

# Style, types and documentation, as part of the tests.
check: site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

site: $(VENV)/test.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/test.done
	$(BIN)/python benchmarks/run_all.py

# The counts of kills are printed.
soak: $(VENV)/test.done
	nice -n 15 $(BIN)/pytest -n 0 -q -s --timeout 0 tests/system/test_killed.py --kills 30

fuzz: $(VENV)/test.done
	nice -n 15 $(BIN)/pytest -n 0 -q -s --timeout 0 tests/system/test_fuzz.py --fuzz 20000 --fuzz-seed $(FUZZ_SEED)

# The environments lie outside the checkout: what is tested is what was installed.
versions:
	@for python in $(PYTHONS); do \
	    $$python -c "" 2>/dev/null || { echo "$$python: not found, not tried"; continue; }; \
	    folder=$$(mktemp -d) && $$python -m venv $$folder/venv && \
	    $$folder/venv/bin/pip install -q . && cp tests/helpers/closure_jobs.py tests/helpers/tones.py $$folder && \
	    (cd $$folder && venv/bin/python closure_jobs.py base) || { echo "$$python: failed"; exit 1; }; \
	    echo "$$python: base installation works"; rm -rf $$folder; \
	done

# sdist and wheel, in dist/.
dist: $(VENV)-release/release.done
	rm -rf dist build
	$(VENV)-release/bin/python -m build -q
	$(VENV)-release/bin/twine check --strict dist/*

release: test dist
	git diff --quiet HEAD || { echo "uncommitted changes: commit them first"; exit 1; }
	@echo "ready; upload with: $(VENV)-release/bin/twine upload dist/*"

clean:
	rm -rf $(VENV) $(VENV)-release dist runs site build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[demo]'
	touch $@

$(VENV)/test.done: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[test]'
	touch $@

$(VENV)-release/release.done:
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/bin/pip install -q build twine
	touch $@
