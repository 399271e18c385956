# Everything a contributor does, on one screen. `make` alone checks what you changed in under a minute.
# Only git, make and Python 3.11 to 3.13 with pip are needed: the first target makes .venv by itself.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
UV_BOOT := .venv/.boot
UV_PIP = $(UV_BOOT)/bin/uv pip install --quiet --python $(BIN)/python
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-header --no-emit-index-url --no-emit-find-links $(UPGRADE)

# pip and uv name the same setting differently; who has set the first means both.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# a process for each core; the tests of one file stay together, with the servers they share
PARALLEL ?= -n auto --dist loadfile

.DEFAULT_GOAL := check
.PHONY: check test test-fast prove lint format web bench docs demo lock clean

check: lint test-fast                 ## lint + test-fast

test: lint                            ## everything: 22 minutes on two cores
	$(BIN)/pytest -ra $(PARALLEL)

test-fast: $(READY)                   ## no slow tests, no Postgres, no browser
	$(BIN)/pytest $(PARALLEL) -m "not slow and not postgres and not browser"

prove: lint                           ## everything at full size: hours
	TARMAC_PROVE=1 $(BIN)/pytest -ra

lint: $(READY)                        ## style, types, who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)                      ## mend what can be mended without thought
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

web: $(READY)                         ## build the web page into src/, after its type check and tests
	$(BIN)/python hatch_build.py --check

bench: $(READY)                       ## side by side with peers and physical limits
	$(BIN)/python bench/run.py $(ARGS)

docs: $(READY)                        ## write docs/reference/ anew
	$(BIN)/python docs/generate.py

demo: $(READY)                        ## the whole life of a model, on this machine
	-$(BIN)/python hatch_build.py
	$(BIN)/tarmac demo

lock: $(READY)                        ## resolve requirements/*.txt; UPGRADE=--upgrade takes newer versions
	$(COMPILE) pyproject.toml -o requirements/core.txt
	$(COMPILE) --extra postgres pyproject.toml requirements/dev.in -o requirements/dev.txt

clean:                                ## remove what these targets made
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf build dist web/node_modules src/tarmac/server/static
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# uv makes the environment, so that Python's own venv module (a package of its own on some systems) is not needed.
# The stamp is written last: a half-made environment is made again.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "tarmac needs Python 3.11 to 3.13, and $(PYTHON) is another: make PYTHON=python3.11"; exit 1; }
	@mkdir -p .venv
	awk '/^[^ #]/ {mine = /^uv==/} mine' requirements/dev.txt > .venv/.uv.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
		--require-hashes --target $(UV_BOOT) -r .venv/.uv.txt
	test -x $(BIN)/python || $(UV_BOOT)/bin/uv venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV_PIP) --require-hashes -r requirements/dev.txt
	$(UV_PIP) --no-deps --no-build-isolation --editable .
	@touch $@
