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
# Probes the running system, compares the results with the plan's decision matrix and recommends a rollback. Nothing here
# changes the target.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again. In commands, RUN
#   is the run folder `outputs/…` of the run that the banner names.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # the plan of the rollback
TARGET: str = "rehearsal"  # a target file, or the name of one below parameters/
TYPE: str = ""  # headless: the rollback type; empty takes the recommendation
SYMPTOMS: str = ""  # headless: corrected symptoms, each by its name with yes or no
OVERRIDE: str = ""  # headless: the reason for a TYPE that is not recommended
MONITOR: str = ""  # what differs from the plan: EVERY and LASTS (seconds), FAILURES
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a run to resume; empty begins a new one

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: a banner with the target's name and colour. Read both.
# - **If it fails**: nothing was touched. Correct the key and file that the error names, then run the cell again.

# %%
from runbook_lib.notebook import choose, investigate, monitor, next_notebook, open_run, symptoms

run = await open_run(PLAN, TARGET, run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT)

# %% [markdown]
# ## Probe the symptoms
#
# This opens the users' page in a browser and asks the API, the database and the logs. Then correct the ticks by what you
# see; each change is recorded with your name.
#
# - **Expect**, in about 10 s: the checks, the symptoms with ticks, and the matrix. `► yes` marks the matching row.
# - **If a check says UNKNOWN**: it could not be made, and nothing was touched. Fix what it names, then run the cell again.
#
# ![Healthy result, an example: one row of the matrix is marked yes, and the recommendation](attachment:triage.png)

# %%
await symptoms(run, SYMPTOMS)

# %% [markdown]
# ## Investigate first
#
# - **Expect**, at once: “No investigation is needed”; else in seconds the findings that confirm the rollback or rule it out.
# - **If a finding says UNKNOWN**: it confirms nothing. Fix what it names, then run the cell again.

# %%
await investigate(run)

# %% [markdown]
# ## Monitor
#
# MONITOR replaces the plan's figures (`EVERY=5, LASTS=60`). Leave the cell running until it ends.
#
# - **Expect**, at once: “No monitoring is needed”; else a chart of the checks, until they fail often enough or time is up.
# - **To stop earlier**: interrupt the kernel. The journal keeps the results so far; choose the rollback in the next cell.

# %%
await monitor(run, MONITOR)

# %% [markdown]
# ## Choose the rollback
#
# Confirm the recommendation, or choose another type and type a reason, which is recorded.
#
# - **Expect**, at once: one line with the type and who chose it. A type that the compatibility table does not allow alone
#   is executed as a larger one.
# - **To choose again**: `await choose(run, "TYPE", TYPE, OVERRIDE, again=True)`.

# %%
chosen = await choose(run, "TYPE", TYPE, OVERRIDE)

# %% [markdown]
# ## Open its notebook
#
# If the rollback has several options, choose one first.
#
# - **Expect**, in a few seconds: its notebook opens, with the steps of that option.
# - **If it does not open**: click its link. Outside of `runbook lab`, open the notebook of that name and set RUN.

# %%
await next_notebook(run)
