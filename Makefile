# The commands of the README. Each sets up what is missing first; a second run installs nothing.
.PHONY: rehearse matrix lab test test-older check bench

SCENARIO ?= all-media-missing
ROWS ?= 20000
PLAN ?= parameters/feat-2025-20251103111429.yaml

rehearse:
	@.ci/setup
	@.venv/bin/runbook rehearse --scenario $(SCENARIO) --rows $(ROWS)

matrix:
	@.ci/setup
	@.venv/bin/runbook rehearse --matrix --rows $(ROWS)

# A game day; with TARGET=parameters/yours.yaml OPERATOR="..." REASON="..." INCIDENT=... the real thing.
lab:
	@.ci/setup lab
ifdef TARGET
	@.venv-lab/bin/runbook lab --plan $(PLAN) --target $(TARGET) --operator "$(OPERATOR)" --reason "$(REASON)" --incident "$(INCIDENT)"
else
	@.venv-lab/bin/runbook lab --rehearsal --scenario $(SCENARIO) --rows $(ROWS)
endif

test: check
	@.ci/setup test
	@.venv/bin/python -m pytest --numprocesses 2 --dist loadfile -m "not older"

# The same on what is older and promised too: PostgreSQL 15, ipykernel 7.3 and docker-compose 1.
test-older:
	@.ci/setup test
	@.venv/bin/python -m pytest --numprocesses 2 --dist loadfile -m older

check:
	@.ci/setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

BENCHMARKS = overhead.py database.py seat.py

bench:
	@.ci/setup
	@.ci/setup lab
	@missed=0; for each in $(BENCHMARKS); do .venv/bin/python benchmarks/$$each || missed=1; done; exit $$missed
