# The two commands of the README. Each sets up what is missing first; a second run installs nothing.
.PHONY: rehearse matrix test check bench

SCENARIO ?= all-media-missing
ROWS ?= 20000

rehearse:
	@.ci/setup
	@.venv/bin/runbook rehearse --scenario $(SCENARIO) --rows $(ROWS)

matrix:
	@.ci/setup
	@.venv/bin/runbook rehearse --matrix --rows $(ROWS)

test: check
	@.ci/setup test
	@.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

check:
	@.ci/setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench:
	@.ci/setup
	@.venv/bin/python benchmarks/overhead.py
	@.venv/bin/python benchmarks/database.py
