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
# # Troubleshooting
#
# For a rollback that was carried out and did not help, or that is stuck. Looks for each of the plan's troubles, shows what
# it found, and mends the one that is chosen, step by step as a rollback is.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file below parameters/
TROUBLE: str = ""  # headless: which one to mend; empty takes the one that is found alone
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a troubleshooting run to take up again; empty begins a new one
APPROVE: str = ""  # headless: the digest of the preview that was approved
WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail

# %% [markdown]
# ## Open the run
#
# This is a run of its own, next to the rollback's. *Do*: run the cell. *Expect*: a banner with the target's name and colour.
# *If not*: the message names the file and the key to mend.

# %%
from runbook_lib.notebook import approve, choose_trouble, close, diagnose, fix, open_run, preview, verify

run = await open_run(PLAN, TARGET, run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT, waive=WAIVE)

# %% [markdown]
# ## What is wrong
#
# *Do*: run the cell; it opens the users' page, asks the API, compares with the backup and lists the database's sessions.
# *Expect*: a table of the plan's troubles, those that are there marked. *If not*: what says UNKNOWN could not be looked at;
# mend what it names and run the cell again.

# %%
await diagnose(run)

# %% [markdown]
# ## Which one to mend
#
# *Do*: choose. *Expect*: one line that says what will be carried out. *If not*: the trouble is mended by another notebook,
# which the message names with the RUN to give it. A restore alone needs the services stopped.

# %%
await choose_trouble(run, TROUBLE)

# %% [markdown]
# ## Preview
#
# *Do*: run the cell and read it: each session that would be ended stands there by its pid, each cache by its name.
# *Expect*: a digest above the table. *If not*: nothing was touched.

# %%
await preview(run)

# %% [markdown]
# ## The approval
#
# **What is previewed above is done below.** Ended sessions lose what they have not committed; a frontend is restarted.
#
# *Do*: give the answer asked for. *Expect*: one line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## Mend it
#
# *Do*: run the cell. *Expect*: each step done and verified. *If not*: nothing is done twice when the cell is run again; the
# error says what is safe.

# %%
await fix(run)

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. A browser that was open before may hold the old page: reload it with
# Ctrl+Shift+R (Cmd+Shift+R on a Mac). *If not*: the trouble has another cause; run *what is wrong* again.

# %%
await verify(run)

# %% [markdown]
# ## Close
#
# *Do*: run the cell. *Expect*: VERIFIED; then go back to the rollback's own notebook. Report and log are in the run folder.

# %%
await close(run)
