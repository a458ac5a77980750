# `make` alone lists what there is. Everything runs from .venv, which makes itself.
#
# GNU make has three exit codes of its own: 0, and 2 for a recipe that failed, whatever the recipe
# ended with. It prints that code as its last line on stderr ("make: *** [Makefile:…: demo] Error 3"),
# and demo/run.py leaves it in demo/var/exit_code. Who needs it as an exit code calls
# `.venv/bin/python demo/run.py --once`. With -C, make speaks last on stdout too, after the JSON
# line of `make bench`, unless told --no-print-directory.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

RUN := .venv/bin/python
BENCHMARKS := $(filter-out _%,$(basename $(notdir $(wildcard benchmarks/*.py))))
SYSTEM := chromium:chromium git:git pgbouncer:pgbouncer \
	prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager \
	systemd-analyze:systemd  # command:Debian package, for `make test`

# Most of what is started here is a Python of a second's life, which would compile this project anew.
unexport PYTHONDONTWRITEBYTECODE

ifeq ($(CI),true)
# A test whose program is missing fails there; elsewhere it is skipped and says why.
export REHEARSAL_TEST_STRICT := 1
endif

.PHONY: help demo test long fuzz security faults matrix bench screenshots lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed-demo ## the stand-in project, rehearsed, with its page; ONCE=1: one rehearsal, then end
	@$(RUN) demo/run.py $(if $(filter-out 0,$(ONCE)),--once)

test: system .venv/installed-test lint ## every check of this project's own code
	@$(RUN) -m pytest -n 4 $(ARGS)  # twice the cores of CI: most tests wait for a process

long: system .venv/installed-test ## the tests that take minutes: more seeds, more mutations, more faults
	@$(RUN) -m pytest -n 2 -o faulthandler_timeout=1800 -m long $(ARGS)

fuzz: system .venv/installed-test ## every reader on 10,000 cases of rubbish, many minutes; writes docs/proof.md
	@$(RUN) -m pytest -n 2 -o faulthandler_timeout=1800 -m fuzz --hypothesis-profile=long --proof $(ARGS)

security: system .venv/installed-test ## what intruders would try, long tests too; writes docs/proof.md
	@$(RUN) -m pytest -n 2 -m security --proof $(ARGS)

faults: system .venv/installed-test ## every fault that is injected, long ones too; writes docs/proof.md
	@$(RUN) -m pytest -n 6 -o faulthandler_timeout=1800 -m fault --proof $(ARGS)

matrix: system-matrix .venv/installed-matrix ## tests and wheel on every supported Python and Django; ARGS="-s 'wheel(3.13-django6.1)'"
	@.venv/bin/nox $(ARGS)

bench: system .venv/installed-bench ## one benchmark: NAME=orchestration|...; NAME=all: each, and the table in docs/proof.md
	@case " $(BENCHMARKS) " in \
	*" $(or $(NAME),none given) "*) $(RUN) -m benchmarks.$(NAME) $(SEEDS) $(ONLY) ;; \
	*) echo "NAME was expected to be one of: $(or $(BENCHMARKS),(there are none)); found: $(or $(NAME),none)." \
	    "Try 'make bench NAME=$(or $(firstword $(BENCHMARKS)),orchestration)'." >&2; exit 2 ;; \
	esac

screenshots: system .venv/installed-test ## a picture of every state of the page, in screenshots/
	@SCREENSHOTS=screenshots $(RUN) -m pytest -q -n 0 -m "long or not long" tests/browser/test_gallery.py

lint: .venv/installed-test ## style, types and the direction of imports
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@TEST_POSTGRESQL_URL=postgresql:// TEST_REDIS_URL=redis:// $(RUN) -m mypy
	@.venv/bin/lint-imports

format: .venv/installed-test ## put the code into its style
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

clean: ## remove what these commands made, .venv included
	rm -rf .venv .nox demo/var dist screenshots .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: system system-matrix
system:
	@demo/environment.sh system $(SYSTEM)

system-matrix:  # no wheel carries a Redis for Python 3.13
	@demo/environment.sh system $(SYSTEM) redis-server:redis-server

.venv/installed-demo: pyproject.toml demo/environment.sh
	@demo/environment.sh python demo

.venv/installed-bench: pyproject.toml demo/environment.sh
	@demo/environment.sh python demo test bench

.venv/installed-test: pyproject.toml demo/environment.sh
	@demo/environment.sh python demo test migrations

.venv/installed-matrix: pyproject.toml demo/environment.sh
	@demo/environment.sh python demo test migrations matrix
