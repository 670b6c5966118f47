# make demo   everything real on this machine: Kafka, MirrorMaker, sshd, Elasticsearch, Airflow
# make test   all tests: checks, unit tests, integration tests on Airflow 3.3 and 2.11
# make unit   the unit tests alone
# make chaos  parts break at random for 15 minutes, and nothing may be wrong: MINUTES=… SEED=…
# make bench  names the benchmarks; make bench-short shows that they run
.DEFAULT_GOAL := help
SHELL := /bin/bash
UV_VERSION := 0.13.9

# Compiled modules make each of the many starts of Airflow three seconds shorter.
unexport PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS := never

UV := .venv-tools/bin/uv
# Looked up when it is used: it may have been installed just before.
PYTHON = $(shell lab/prepare.sh --python)
BIN := .venv/bin
BIN_2 := .venv-2.11/bin

.PHONY: help demo chaos test unit lint types unit-2 integration bench bench-short lock clean

help:
	@sed -n '1,5s/^# //p' Makefile

demo: .venv/.ready
	@lab/prepare.sh java mvn
	@$(BIN)/python -m lab.demo $(if $(CHECK),--check)

chaos: .venv/.ready
	@lab/prepare.sh java mvn sshd postgres
	@$(BIN)/python -m lab chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

test: lint types unit unit-2 integration bench-short

unit: .venv/.ready
	$(BIN)/pytest -q tests/unit

unit-2: .venv-2.11/.ready
	$(BIN_2)/pytest -q tests/unit

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/mypy

# Two at a time, each with a laboratory of its own: most of it waits for minutes to pass.
integration: .venv/.ready .venv-2.11/.ready
	@lab/prepare.sh java mvn sshd postgres redis git
	$(BIN)/pytest -q -m integration -n 2 --dist loadfile --durations 8 \
	  --ignore tests/integration/lab/test_chaos.py tests/integration
	# Alone: what other tests take of the machine would look like a fault that nobody planned.
	$(BIN)/pytest -q -m integration tests/integration/lab/test_chaos.py

bench:
	@echo "See benchmarks/README.md; from this folder, after any of the other commands:"
	@sed -n 's|^    python -m|  $(BIN)/python -m|p' benchmarks/README.md

# That they run is a matter for a test; their figures are not.
bench-short: .venv/.ready
	@lab/prepare.sh java mvn postgres
	$(BIN)/python -m benchmarks.pipeline --short
	$(BIN)/python -m benchmarks.airflow_side --short

# Writes the lock files anew from the .in files beside them.
lock: $(UV)
	for version in 3.3 2.11; do \
	  $(UV) pip compile --quiet --upgrade --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' \
	    requirements/airflow-$$version.in -o requirements/airflow-$$version.txt || exit 1; \
	done

clean:
	rm -rf .venv .venv-2.11 .venv-tools .lab .demo build dist *.egg-info

$(UV):
	@echo "Installing uv $(UV_VERSION) …"
	@lab/prepare.sh python
	@$(PYTHON) -m venv .venv-tools
	@.venv-tools/bin/pip install --quiet uv==$(UV_VERSION)

.venv/.ready: requirements/airflow-3.3.txt setup.cfg | $(UV)
	$(call install,.venv,$<)

.venv-2.11/.ready: requirements/airflow-2.11.txt setup.cfg | $(UV)
	$(call install,.venv-2.11,$<)

define install
	@echo "Installing $(2) into $(1) …"
	@$(UV) venv --quiet --clear --python $(PYTHON) $(1)
	@$(UV) pip install --python $(1)/bin/python --compile-bytecode --require-hashes -r $(2)
	@$(UV) pip install --quiet --python $(1)/bin/python --no-deps --editable .
	@touch $@
endef
