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
# For a rollback that did not help, or that is blocked. It looks for the plan's known troubles, shows what it found, and
# fixes the one that you choose.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again. A finished
#   step is never done twice.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # the plan of the rollback
TARGET: str = "rehearsal"  # a target file, or the name of one below parameters/
TROUBLE: str = ""  # headless: the trouble to fix; empty takes the only one found
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a troubleshooting run to resume; empty begins a new one
APPROVE: str = ""  # headless: the digest of the preview that was approved
WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail

# %% [markdown]
# ## Open the run
#
# This is a separate run, next to the rollback's.
#
# - **Expect**, in about 2 s: a banner with the target's name and colour. Read both.
# - **If it fails**: nothing was touched. Correct the key and file that the error names, then run the cell again.

# %%
from runbook_lib.notebook import approve, choose_trouble, close, diagnose, fix, open_run, preview, verify

run = await open_run(PLAN, TARGET, run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT, waive=WAIVE)

# %% [markdown]
# ## What is wrong
#
# This opens the users' page, asks the API, compares with the backup and lists the database's sessions.
#
# - **Expect**, in about 10 s: a table of the plan's troubles; `► yes` marks those that are present.
# - **If a check says UNKNOWN**: it could not be made, and nothing was touched. Fix what it names, then run the cell again.

# %%
await diagnose(run)

# %% [markdown]
# ## Choose the trouble to fix
#
# - **Expect**, at once: one line with the chosen fix.
# - **If it fails**: another notebook fixes this trouble. The error names it and its RUN; nothing was changed. A restore
#   alone needs the services stopped.

# %%
await choose_trouble(run, TROUBLE)

# %% [markdown]
# ## Preview
#
# Read what the fix changes: each session to be ended with its pid, each cache with its name.
#
# - **Expect**, in seconds: a table, and above it the digest to approve.
# - **If it fails**: nothing was touched. Fix what the error names, then run the cell again.

# %%
await preview(run)

# %% [markdown]
# ## The approval
#
# **After this approval, the steps below change the target.** Ended sessions lose uncommitted work; a frontend restarts.
#
# - **Expect**, in about 1 s after your answer: one line APPROVED.
# - **If not**: nothing was touched, and no step below acts. Run `await preview(run)` again, then this cell.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## Fix it
#
# - **Expect**, in about 1 min: each step done and verified.
# - **If it fails**: earlier steps stay done. Fix what the error names and run the cell again; finished steps are not
#   repeated. To undo: `runbook undo RUN` in a terminal.

# %%
await fix(run)

# %% [markdown]
# ## Verify
#
# An open browser may show the old page: reload it with Ctrl+Shift+R (Cmd+Shift+R on a Mac).
#
# - **Expect**, in seconds: PASS in every row.
# - **If not**: the trouble has another cause, and the fix stays. Run `await diagnose(run)` again.

# %%
await verify(run)

# %% [markdown]
# ## Close
#
# - **Expect**, in about 1 s: VERIFIED. Report and log are in the run folder.
# - **Next**: return to the rollback's own notebook and run its failed cell again.

# %%
await close(run)
