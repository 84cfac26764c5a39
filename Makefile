# dsa110-contimg: `make run` starts everything, `make test` checks it. Nothing outside this directory is touched.
#
#   make run                    simulate one observation, process it, serve the result
#   make run DATA=/some/dir     process the *_sbNN.hdf5 files there (they are left as they are)
#   make run ONCE=1             end after the summary; exit code 0 only if every stage completed
#   make run PORT=8080          serve on another port

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS := 2
EXAMPLES := 100
# Servers, workers and stages are processes of their own: each would compile the same modules once more.
export PYTHONDONTWRITEBYTECODE :=
# A file at a time, in the order of the files: those of one or two long tests are not kept for the end.
BOTH_CORES = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input

.PHONY: help
help: ## Show this list
	@sed -n 's/^#   /  /p' Makefile; echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# The first interpreter that is a Python 3.11; pyenv's shims exist for versions that are not active, hence the trial.
$(BIN)/python:
	@python=; for candidate in $${PYTHON:-} python3.11 python3 python; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 is needed and was found neither as python3.11 nor as python3." >&2; \
	  echo "Install it (Debian 12: apt install python3.11 python3.11-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; fi; \
	"$$python" -c 'import ensurepip' 2>/dev/null || { \
	  echo "$$python has no ensurepip, so that it cannot make a virtual environment (Debian: apt install python3.11-venv)." >&2; exit 1; }; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked packages into $(VENV) (a few minutes, once)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make .venv from requirements.lock (again when the lock changes)

.PHONY: run
run: $(STAMP) ## Start everything; DATA=dir ONCE=1 PORT=n
	@exec $(BIN)/dsa110 up $(if $(DATA),--data '$(DATA)') $(if $(filter-out 0,$(ONCE)),--once) $(if $(PORT),--port '$(PORT)')

.PHONY: test
test: $(STAMP) ## Run the tests on both cores; ARGS='-k name' passes options to pytest, WORKERS=0 is one process
	@$(BIN)/python -m pytest $(BOTH_CORES) $(ARGS)

# Files whose every branch the default tests take: the gate, paths and keys (those that give files, and those that judge).
GUARDS := middleware/gate middleware/judge middleware/head middleware/busy middleware/bases middleware/admission \
  middleware/connection middleware/socket_connection middleware/crowd middleware/cross_origin middleware/error_body \
  middleware/exchange middleware/headers security request_error access_settings file_access file_trees \
  file_reply archive archive_reply run_logs strict_json \
  credentials authorization audit rate_limit services/access_service services/tokens services/rate_limiter \
  services/rate_windows services/socket_limit queries/credentials queries/audit
comma := ,
empty :=
API_TESTS = $(shell grep -rlE --include='*.py' 'dsa110_contimg\.api|fixtures\.(api_|live_api|work_bench)' tests/unit tests/integration)

.PHONY: coverage
coverage: $(STAMP) ## Branch coverage of the API by its default tests: the whole >= 95 %, the gate, paths and keys 100 %
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(BOTH_CORES) $(API_TESTS) $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --include='src/dsa110_contimg/api/*' --fail-under=95
	@$(BIN)/python -m coverage report --fail-under=100 \
	  --include='$(subst $(empty) $(empty),$(comma),$(patsubst %,src/dsa110_contimg/api/%.py,$(GUARDS)))'

.PHONY: fuzz
fuzz: $(STAMP) ## Ask a running API whatever its description allows, on both databases (schemathesis, all phases); EXAMPLES=100
	@EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -rP -m slow -n $(WORKERS) --dist load tests/integration/test_fuzzing.py $(ARGS)

.PHONY: check format lint types contracts
check: format lint types contracts ## Format, lint, strict types, import contracts (`make -k check` does not stop at the first)
format: $(STAMP)
	@$(BIN)/ruff format --check .
lint: $(STAMP)
	@$(BIN)/ruff check .
types: $(STAMP)
	@$(BIN)/mypy
contracts: $(STAMP)
	@$(BIN)/lint-imports

.PHONY: lock
lock: $(STAMP) ## Resolve pyproject.toml again into requirements.lock (pinned, with the hashes of every platform)
	@$(BIN)/pip-compile --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	  --output-file requirements.lock pyproject.toml

.PHONY: clean
clean: ## Remove .venv and caches; the state directory stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist src/*.egg-info
