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

.PHONY: help demo test test-c test-python test-free-threaded \
	test-address-sanitizer test-thread-sanitizer build bench bench-all \
	bench-compare bench-report lint format wheels clean
.NOTPARALLEL:

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Play an engine's day on real files, with a crash and a recovery
	PYTHONPATH=examples $(BIN)/python -m virtualization demo

test: test-c test-python ## Run the C tests (plain and under sanitizers), then pytest

test-c: ## Build the C core alone and run its tests
	$(MAKE) -C tests/c test

TEST_GROUP ?= test
test-python: $(INSTALLED) $(VENV)/.group-$(TEST_GROUP) ## Run pytest; PYTEST_ARGS=... adds arguments
	$(TEST_UNDER) $(BIN)/python -m pytest $(PYTEST_ARGS)

FREE_THREADED_PYTHON ?= $(shell for p in python3.14t python3.13t /opt/python-nogil/bin/python3.13t; do \
	command -v $$p && break; done)
test-free-threaded: ## Run pytest without the GIL; FREE_THREADED_PYTHON=... names the interpreter
	@python="$(FREE_THREADED_PYTHON)"; \
	if [ -z "$$python" ]; then \
		echo "no free-threaded Python found: set FREE_THREADED_PYTHON to a python3.13t or later" >&2; \
		exit 1; \
	fi; \
	"$$python" -c 'import sys; sys.exit(getattr(sys, "_is_gil_enabled", lambda: True)())' || { \
		echo "$$python runs with the GIL: a free-threaded build is needed" >&2; exit 1; }; \
	group=$$("$$python" -c 'import sys; print("test-core" if sys.version_info >= (3, 14) else "test-base")'); \
	$(MAKE) test-python PYTHON="$$python" VENV=.venv-free-threaded TEST_GROUP="$$group"

# What can leave memory in a bad state. The engine is Python.
SANITIZED_TESTS := tests/unit tests/contract tests/concurrency tests/stress

# The interpreter was not built for it, so the sanitizer is loaded first. It sees what we allocate,
# and what CPython does, which CPython does not free at its end: so no look for leaks.
test-address-sanitizer: ## Run pytest under AddressSanitizer and UBSan
	$(MAKE) test-python VENV=.venv-address LOCKCORE_SANITIZE=address TEST_GROUP=test-core \
		PYTEST_ARGS="$(or $(PYTEST_ARGS),--timeout 200 $(SANITIZED_TESTS))" \
		TEST_UNDER="env LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) PYTHONMALLOC=malloc \
			ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1"

# What makes threads meet, and share handles. Nothing that forks, collects garbage again and again or
# starts programs, which take longer there than those tests wait.
RACED_TESTS := $(addprefix tests/stress/test_,shared_handles.py stress.py late_wake_ups.py) \
	$(addprefix tests/concurrency/test_,cancellation.py changing_keys.py timeout.py)

# Under the sanitizer pip, Cython and imports without bytecode take many minutes, so the ordinary
# interpreter of the same version makes the environment, the extension and the bytecode. A race that is
# reported ends the run with status 66.
THREAD_SANITIZER_PYTHON ?= /opt/python-tsan/bin/python3.13t
test-thread-sanitizer: ## Run what races under ThreadSanitizer; THREAD_SANITIZER_PYTHON=... is built for it
	@abi='import sysconfig; print(sysconfig.get_config_var("SOABI"))'; \
	theirs=$$("$(THREAD_SANITIZER_PYTHON)" -c "$$abi") && ours=$$("$(FREE_THREADED_PYTHON)" -c "$$abi") \
		&& [ "$$theirs" = "$$ours" ] || { \
		echo "set THREAD_SANITIZER_PYTHON, and FREE_THREADED_PYTHON of the same version" >&2; exit 1; }
	$(MAKE) install .venv-thread/.group-test-base PYTHON="$(FREE_THREADED_PYTHON)" VENV=.venv-thread \
		LOCKCORE_SANITIZE=thread
	export PYTHONPYCACHEPREFIX="$(CURDIR)/.venv-thread/bytecode"; \
	packages=$$(echo "$(CURDIR)"/.venv-thread/lib/python*/site-packages); \
	library=$$("$(THREAD_SANITIZER_PYTHON)" -c 'import os; print(os.path.dirname(os.__file__))'); \
	"$(FREE_THREADED_PYTHON)" -m compileall -q -j 0 -x '/(test|idlelib|pip)/' \
		"$$library" "$$packages" python tests; \
	PYTHONPATH="$$packages:$(CURDIR)/python" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan-suppressions.txt" \
		"$(THREAD_SANITIZER_PYTHON)" -m pytest --assert=plain \
		$(or $(PYTEST_ARGS),--timeout 200 $(RACED_TESTS))

build: ## Build the extension in debug mode: no optimisation, invariant checks, sync points
	$(MAKE) install LOCKCORE_DEBUG=1

# One saved run for each interpreter; bench-report reads them all.
BENCH_GROUP ?= bench
BENCH_FILES ?= benchmarks
BENCH_JSON := build/bench-$(ABI).json
bench: $(INSTALLED) $(VENV)/.group-$(BENCH_GROUP) ## Measure against the rivals; BENCH_ARGS=... adds arguments
	$(BIN)/python -m pytest $(BENCH_FILES) --benchmark-json=$(BENCH_JSON) $(BENCH_ARGS)
	$(BIN)/python benchmarks/report.py $(BENCH_JSON)

# What the bounds are about, and what changes without the GIL.
RATIO_FILES := $(addprefix benchmarks/bench_,pair.py sets.py refused.py handoff.py annotation.py)
THREAD_FILES := $(addprefix benchmarks/bench_,threads.py hot_readers.py)
BENCH_BESIDE ?= python3.13
bench-all: ## Measure on PYTHON; ratios on BENCH_BESIDE, threads on FREE_THREADED_PYTHON, too
	@for p in "$(BENCH_BESIDE)" "$(FREE_THREADED_PYTHON)"; do "$$p" -c '' || { \
		echo "cannot run '$$p': set BENCH_BESIDE and FREE_THREADED_PYTHON" >&2; exit 1; }; done
	rm -f build/bench-*.json
	$(MAKE) bench
	$(MAKE) bench PYTHON="$(BENCH_BESIDE)" VENV=.venv-beside BENCH_FILES="$(RATIO_FILES) $(THREAD_FILES)"
	$(MAKE) bench PYTHON="$(FREE_THREADED_PYTHON)" VENV=.venv-free-threaded \
		BENCH_GROUP=bench-base BENCH_FILES="$(THREAD_FILES)"

# This tree's benchmarks on both, so that an old commit is asked the same questions.
bench-compare: $(INSTALLED) $(VENV)/.group-bench ## Compare the ratios of commit OLD=... and of this tree
	@git rev-parse --verify --quiet "$(OLD)^{commit}" >/dev/null || { \
		echo "which commit to compare with? OLD=HEAD~1, say" >&2; exit 1; }
	rm -rf build/old && mkdir -p build/old && git archive "$(OLD)" | tar -x -C build/old
	$(MAKE) -C build/old install VENV=.venv
	build/old/.venv/bin/python -m pip install --quiet --prefer-binary --group bench
	build/old/.venv/bin/python -m pytest $(RATIO_FILES) -k lockcore --benchmark-json=build/old.json \
		$(BENCH_ARGS)
	$(BIN)/python -m pytest $(RATIO_FILES) -k lockcore --benchmark-json=build/new.json \
		--benchmark-compare=build/old.json $(BENCH_ARGS)
	$(BIN)/python benchmarks/report.py build/new.json build/old.json

bench-report: $(INSTALLED) $(VENV)/.group-bench ## Write the saved runs into README and docs
	$(BIN)/python benchmarks/report.py $(sort $(wildcard build/bench-*.json)) \
		--plots docs/explanation/performance --write docs/explanation/performance.md --write README.md

lint: $(INSTALLED) $(VENV)/.group-lint ## Check style, types, stubs and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tests/typing/stubtest-allowlist.txt lockcore
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
