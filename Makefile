# One command each. Everything is set up on first use; nothing needs to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
TEST_WORKERS ?= 3
# Modules without input and output, all branches of which the tests take.
PURE := api/byte_ranges bots/chat_faults bots/learned_limits broadcasts/columns broadcasts/progress \
  broadcasts/state_machine coercion database/queue_priority error_catalog events/batches events/filter \
  fetch/addresses flood_control/bot_windows flood_control/failure_counter flood_control/limits \
  flood_control/priority idle_tracking media/content_policy media/names media/preview_urls models probe/boxes \
  probe/file_names probe/id3 probe/pictures probe/stickers probe/tags probe/words sending/escape \
  sending/extra_options sending/invalid_id_detector settings/proxies storage/keys storage/sigv4 telegram/effect \
  telegram/multipart telegram/responses text warmup/policy worker/claim_pacing worker/wake_tracker
PURE_FILES := $(shell printf 'src/telewarm/%s.py,' $(PURE))
unexport PYTHONDONTWRITEBYTECODE # what was compiled once is compiled for all worker processes and all next runs

# Debian packs the venv module apart from Python: as root it is fetched, anybody else is told.
VENV_MODULE := { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; } \
  || { echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 1; }

.PHONY: demo bench test test-fast test-all coverage check format lock clean help

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP) ## try Telewarm on a sandbox, with nothing to set up; ARGS=--once ends after the table
	$(BIN)/telewarm demo $(ARGS)

bench: $(STAMP) ## benchmarks; ARGS=all, or one of them: ARGS="send --small"
	$(BIN)/telewarm bench $(ARGS)

test-fast: $(STAMP) ## tests without database, server and process: seconds
	$(BIN)/pytest -n $(TEST_WORKERS) --fast $(ARGS)

test: $(STAMP) ## all but the heavy tests, before a change lands; ARGS="-k name" for some
	$(BIN)/pytest -n $(TEST_WORKERS) -m "not heavy" $(ARGS)

test-all: $(STAMP) ## every test, benchmarks and crashes too
	$(BIN)/pytest -n $(TEST_WORKERS) --hypothesis-profile=ci $(ARGS)

coverage: $(STAMP) ## test-all, measured; fails when less of the branches is covered than was
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(TEST_WORKERS) --hypothesis-profile=ci $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='$(PURE_FILES)' --fail-under=100 --precision=2
	$(BIN)/coverage report

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## apply automatic formatting and fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/bin/uv ## pin every dependency by version and hash
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --group dev pyproject.toml -o requirements.lock $(ARGS)

clean: ## forget the virtual environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Telewarm needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(VENV_MODULE)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@
