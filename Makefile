# Everything a person or a CI runs. `make` alone explains itself.
.DEFAULT_GOAL := help
.PHONY: help demo setup boards test test-full lint format planted bench docs lock clean run-setup checks serial-tests

VENV   := .venv
PY     := $(VENV)/bin/python
PYTEST := $(PY) -m pytest -q
# One worker per core, at most four; tests of one xdist_group stay on one worker.
JOBS   := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)
TREES  := clawsim fleet nanoclaw firmware tests benchmarks scripts

help: ## this list
	@echo "clawsim: rehearse what happens to a Clawland fleet when something fails."
	@echo
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo "New here? 'make demo' sets everything up in $(VENV) and cuts a gateway off its cloud."

demo: run-setup ## set up, then rehearse a cloud outage
	$(VENV)/bin/clawsim run scenarios/cloud-outage.yaml
	@echo
	@echo "Next, the same with real processes, thirty times as fast as the clock on the wall:"
	@echo "    $(VENV)/bin/clawsim run scenarios/cloud-outage.yaml --world live"
	@echo "The other stories are in scenarios/. After '. $(VENV)/bin/activate' the command is just clawsim."

setup: ## a complete .venv for developing (libraries, test tools, Mosquitto, PostgreSQL, Redis, nginx)
	@scripts/setup.sh dev

run-setup:
	@scripts/setup.sh run

test: setup ## lint, types, imports, then every test with reduced counts
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory checks

test-full: export CLAWSIM_FULL = 1
test-full: export HYPOTHESIS_PROFILE = full
test-full: setup ## the same with the long counts (an hour or so)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory checks PYTEST_EXTRA="--timeout=1800"

# Tests of real processes mostly wait, so as many run at once as there are processors. Rehearsals whose clock goes faster
# than the wall's must keep up with it, and benchmarks measure it: both run alone, after the rest.
checks:
	$(PYTEST) tests -n $(JOBS) --dist loadgroup -m "not live and not bench" $(PYTEST_EXTRA)
	$(PYTEST) tests -n $(JOBS) --dist loadfile -m "live and not paced" $(PYTEST_EXTRA)
	$(PYTEST) tests benchmarks -m "(live and paced) or bench" $(PYTEST_EXTRA)

lint: setup ## ruff, mypy --strict, import-linter
	$(VENV)/bin/ruff check --quiet $(TREES)
	$(VENV)/bin/ruff format --check --quiet $(TREES)
	$(VENV)/bin/mypy --no-error-summary
	@echo $(VENV)/bin/lint-imports; mkdir -p .cache; \
	$(VENV)/bin/lint-imports --no-cache >.cache/imports.log 2>&1 || { cat .cache/imports.log; exit 1; }

format: setup ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix --quiet $(TREES)
	$(VENV)/bin/ruff format --quiet $(TREES)

planted: setup ## plant bugs one by one, and show which check catches each
	$(PY) -m tests.planted

bench: setup ## the benchmarks, with their figures
	$(PYTEST) benchmarks $(PYTEST_EXTRA)

docs: setup ## renew the tables of docs/scenarios.md that come from the code
	$(PY) -m clawsim.scenario.reference docs/scenarios.md

boards: setup ## MicroPython for this machine and for QEMU, with the firmware frozen in

lock: setup ## renew uv.lock from pyproject.toml, against the public index
	@scripts/lock.sh

clean: ## remove .venv and everything that was generated
	rm -rf $(VENV) .cache .hypothesis .benchmarks .import_linter_cache build dist out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
