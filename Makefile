# Each command first installs what is missing; a second run installs nothing. docs/how-to/run-the-sample.md explains them.
.PHONY: rehearse rehearse-fleet matrix chaos lab corpus test test-older test-slow test-all check bench

# Each of hundreds of short processes would compile again all that it imports.
unexport PYTHONDONTWRITEBYTECODE

SCENARIO ?= all-media-missing
ROWS ?= 20000
PLAN ?= parameters/feat-2025-20251103111429.yaml

# STACK=node or compose: Next.js and Express under pm2 or docker compose, in place of the sample.
STACK ?= sample

SET_UP_STACK = $(if $(filter-out sample,$(STACK)),.ci/setup $(STACK),true)

rehearse:
	@.ci/setup
	@$(SET_UP_STACK)
	@.venv/bin/runbook rehearse --stack $(STACK) --scenario $(SCENARIO) --rows $(ROWS)

# One plan on many databases of one server: the canary fails first, then all are rolled back, then that is undone.
TARGETS ?= 24

rehearse-fleet:
	@.ci/setup
	@.venv/bin/python -m runbook_lib.rehearsal.fleet --targets $(TARGETS)

matrix:
	@.ci/setup
	@$(SET_UP_STACK)
	@.venv/bin/runbook rehearse --matrix --stack $(STACK) --rows $(ROWS)

# Kills rollbacks at every event of their journals, and repeats the command. A seed decides the order of the cases. Without
# CASES it tries all that follow FROM, which takes hours; TRIALS names some of the rollbacks.
SEED ?= 1
FROM ?= 1
TRIALS ?=

chaos:
	@.ci/setup
	@.venv/bin/python -m runbook_lib.rehearsal.chaos --seed $(SEED) --from $(FROM) $(if $(CASES),--cases $(CASES)) $(addprefix --trial ,$(TRIALS))

# A game day; with TARGET=parameters/yours.yaml OPERATOR="..." REASON="..." INCIDENT=... the real thing.
lab:
	@.ci/setup lab
ifdef TARGET
	@.venv-lab/bin/runbook lab --plan $(PLAN) --target $(TARGET) --operator "$(OPERATOR)" --reason "$(REASON)" --incident "$(INCIDENT)"
else
	@.venv-lab/bin/runbook lab --rehearsal --scenario $(SCENARIO) --rows $(ROWS)
endif

# Takes back the corpus of small migrations; CASES names some, as "09 22".
CASES ?=

corpus:
	@.ci/setup
	@.venv/bin/python tests/corpus/judge.py $(CASES)

PYTEST = .venv/bin/python -m pytest --numprocesses 2 --dist loadfile

test: check
	@.ci/setup test
	@$(PYTEST) -m "not older and not slow"

# The same on the oldest supported versions: PostgreSQL 15, ipykernel 7.3 and docker-compose 1.
test-older:
	@.ci/setup test
	@$(PYTEST) -m "older and not slow"

# Tests that take longer than 10 seconds each: whole rollbacks, sessions in the browser, properties, kills at every moment.
test-slow:
	@.ci/setup test
	@$(PYTEST) -m slow --durations 10

# The three in one: collected once, and no process idle at the end of each.
test-all: check
	@.ci/setup test
	@$(PYTEST) --durations 10

check:
	@.ci/setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

BENCHMARKS = overhead.py database.py interface.py draft.py take_back.py pooler.py fleet.py

bench:
	@.ci/setup
	@.ci/setup lab
	@missed=0; for each in $(BENCHMARKS); do .venv/bin/python benchmarks/$$each || missed=1; done; exit $$missed
