# What a contributor runs. Needs Python 3.11 or newer, git and make; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test browser servers interop lint format docs bench build clean

demo: $(VENV)/.demo
	@$(BIN)/ciba demo

# In as many processes as there are cores; for one process: make test WORKERS=0
WORKERS ?= auto
test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered -m "not interop and not servers and not browser"

# The phone's page in Chromium; needs Debian's packages chromium and chromium-driver. Leaves pictures behind.
browser: $(VENV)/.test
	$(BIN)/python -m pytest -m browser tests/cli/test_browser.py

# Real providers on loopback; needs Node and npm besides and, for two of them, a JDK (17 or newer) and Maven.
# The limit is for what the first tests of a provider wait for: its download and its start.
interop: $(VENV)/.test
	$(BIN)/python -m pytest -m interop --timeout 1200 tests/interop

# PostgreSQL and Redis on loopback, started and stopped by the tests, with their data in a temporary folder.
servers: $(VENV)/.test
	$(BIN)/python -m pytest -m servers tests/servers

# In an environment of its own, .venv-bench; for instance: make bench BENCH='--quick --plot chart.svg'
bench:
	@$(PYTHON) -m benchmarks $(BENCH)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Links inside of the site are checked: what leads nowhere is a warning, and warnings are errors.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

build: $(VENV)/.lint
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) dist build docs/_build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	# Dependency groups need a pip of 2025 or later.
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[all]' --group test
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[all]' --group lint
	@touch $@ $(VENV)/.test $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[all]' --group docs
	@touch $@ $(VENV)/.demo
