# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Triage
#
# Looks at the running system, holds it against the plan's decision matrix and recommends a rollback. Nothing here
# changes anything.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file below parameters/
TYPE: str = ""  # headless: the rollback type to choose; empty takes the recommendation
SYMPTOMS: str = ""  # headless: symptoms decided against the probes, each by its name with yes or no
OVERRIDE: str = ""  # headless: why TYPE is another than what is recommended
MONITOR: str = ""  # other than the plan where a symptom is watched: EVERY and LASTS (seconds), FAILURES
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a run to take up again; empty begins a new one

# %% [markdown]
# ## Open the run
#
# *Do*: run the cell. *Expect*: a banner with the target's name and colour. *If not*: the message names the file and the
# key to mend.

# %%
from runbook_lib.notebook import choose, investigate, monitor, next_notebook, open_run, symptoms

run = await open_run(PLAN, TARGET, run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT)

# %% [markdown]
# ## Probe the symptoms
#
# *Do*: run the cell; it opens the users' page in a browser and asks API, database and logs. Then tick what you see and the
# probes do not, or the other way round; it is kept with your name. *Expect*: a table of checks, the symptoms ticked by them,
# and the matrix with the matching row marked, which follows each tick. *If not*: a check that says UNKNOWN was not made;
# mend what it names and run the cell again.

# %%
await symptoms(run, SYMPTOMS)

# %% [markdown]
# ## Investigate first
#
# *Do*: run the cell. *Expect*: “No investigation is called for”, or the findings that confirm the rollback or clear it.
# *If not*: a finding that says UNKNOWN confirms nothing.

# %%
await investigate(run)

# %% [markdown]
# ## Monitor
#
# *Do*: run the cell, and leave it running for as long as the plan says, or MONITOR (`EVERY=5, LASTS=60`). *Expect*: “No
# monitoring is called for”, or the symptom's checks again and again, plotted, until they fail often enough or the time is
# over. *If not*: interrupt the kernel; what was seen so far is in the journal.

# %%
await monitor(run, MONITOR)

# %% [markdown]
# ## Choose the rollback
#
# *Do*: confirm the recommendation, or choose another type with a reason that stays on record. *Expect*: one line that says
# what was chosen, and by whom; a type that would leave code and data apart is run as the next larger one.

# %%
chosen = await choose(run, "TYPE", TYPE, OVERRIDE)

# %% [markdown]
# ## Open its notebook
#
# *Do*: run the cell; where the rollback has several options, choose one. *Expect*: its notebook opens, with the steps of
# that option and no others. *If not*: click its link; in a JupyterLab that `runbook lab` did not start, open the notebook
# of that name and give it RUN.

# %%
await next_notebook(run)
