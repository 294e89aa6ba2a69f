# The short list of developer commands; `make help` prints it.
#
# Every command makes the virtual environment it needs. PYTHON=... chooses the interpreter,
# VENV=... where the environment goes, LOCKCORE_DEBUG=1 and LOCKCORE_SANITIZE=address|thread
# how the extension is built. Editing a compiled source rebuilds it at the next command.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One environment serves one interpreter.
ABI := $(shell "$(PYTHON)" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))' 2>/dev/null)
BUILD := $(if $(filter-out 0,$(LOCKCORE_DEBUG)),debug,release)$(addprefix -,$(LOCKCORE_SANITIZE))
MADE := $(VENV)/.made-$(ABI)

# An editable install leaves one .so per interpreter in the tree, so this file belongs to the tree,
# and says which build the .so is and which environment has it.
INSTALLED := build/installed-$(ABI)
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(BUILD) $(VENV))
$(INSTALLED): FORCE
endif

COMPILED := setup.py pyproject.toml $(wildcard src/lockcore/*.[ch] src/lockcore/*.p* \
	python/lockcore/*.pxd)
C_FILES := $(wildcard src/lockcore/*.[ch] tests/c/*.[ch])

.PHONY: help demo test test-c test-python test-free-threaded build bench bench-report lint format wheels clean
.NOTPARALLEL:

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Play an engine's day on real files, with a crash and a recovery
	$(BIN)/python -m lockcore demo

test: test-c test-python ## Run the C tests (plain and under sanitizers), then pytest

test-c: ## Build the C core alone and run its tests
	$(MAKE) -C tests/c test

TEST_GROUP ?= test
test-python: $(INSTALLED) $(VENV)/.group-$(TEST_GROUP) ## Run pytest; PYTEST_ARGS=... adds arguments
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-free-threaded: ## Run pytest without the GIL; FREE_THREADED_PYTHON=... names the interpreter
	@python="$(FREE_THREADED_PYTHON)"; \
	for p in python3.14t python3.13t /opt/python-nogil/bin/python3.13t; do \
		[ -n "$$python" ] || python=$$(command -v $$p || true); \
	done; \
	if [ -z "$$python" ]; then \
		echo "no free-threaded Python found: set FREE_THREADED_PYTHON to a python3.13t or later" >&2; \
		exit 1; \
	fi; \
	"$$python" -c 'import sys; sys.exit(getattr(sys, "_is_gil_enabled", lambda: True)())' || { \
		echo "$$python runs with the GIL: a free-threaded build is needed" >&2; exit 1; }; \
	group=$$("$$python" -c 'import sys; print("test" if sys.version_info >= (3, 14) else "test-base")'); \
	$(MAKE) test-python PYTHON="$$python" VENV=.venv-free-threaded TEST_GROUP="$$group"

build: ## Build the extension in debug mode: no optimisation, invariant checks, sync points
	$(MAKE) install LOCKCORE_DEBUG=1

bench: $(INSTALLED) $(VENV)/.group-bench ## Measure against the rivals; BENCH_ARGS=... adds arguments
	$(BIN)/python -m pytest benchmarks --benchmark-json=build/bench.json $(BENCH_ARGS)
	$(BIN)/python benchmarks/report.py build/bench.json

bench-report: $(INSTALLED) $(VENV)/.group-bench ## Write the last `make bench` into README and docs
	$(BIN)/python benchmarks/report.py build/bench.json --plots docs/explanation/performance \
		--write docs/explanation/performance.md --write README.md

lint: $(INSTALLED) $(VENV)/.group-lint ## Check style, types, stubs and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --allowlist tests/typing/stubtest-allowlist.txt lockcore
	PATH="$(abspath $(BIN)):$$PATH" cython-lint $(wildcard src/lockcore/*.p* python/lockcore/*.pxd)
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: $(VENV)/.group-lint ## Format the Python and C sources, and sort imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

wheels: $(VENV)/.group-test ## Make dist/: an sdist, and from it a wheel for this Python
	$(BIN)/python -m build --outdir dist .

clean: ## Remove what these commands made
	rm -rf build dist wheelhouse .venv .venv-* python/lockcore.egg-info
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f python/lockcore/*.so
	find python tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
	$(MAKE) -C tests/c clean

.PHONY: install FORCE
install: $(INSTALLED)

$(MADE):
	@if [ -z "$(ABI)" ]; then \
		echo "no Python 3.11 or later found: set PYTHON=/path/to/python3" >&2; exit 1; \
	fi
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# Wheels first: a tool whose newest release needs another compiler here is taken one release older.
$(VENV)/.group-%: $(MADE) pyproject.toml
	$(BIN)/python -m pip install --quiet --prefer-binary --group $*
	@touch $@

# Editable, so that an edited .py file needs no command at all.
$(INSTALLED): $(VENV)/.group-build $(COMPILED)
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@mkdir -p build && echo "$(BUILD) $(VENV)" >$@
