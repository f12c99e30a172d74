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
# # Restore a part of the backup
#
# Brings one column back from the backup, in rows that lack it; all else stays as it is. For the trouble "mediaUrl field
# missing after rollback". The services go on meanwhile.

# %% tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file below parameters/
CHOICES: str = ""  # other than the plan: FILL as “differing” writes every row that holds another value than the backup
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a run to take up again; empty begins a new one
APPROVE: str = ""  # headless: the digest of the preview that was approved
WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail

# %% [markdown]
# ## Open the run
#
# *Do*: run the cell. *Expect*: a banner with the target's name and colour; read both. *If not*: the message names the
# file and the key to mend.

# %%
from runbook_lib.notebook import apply, approve, check_prerequisites, choose_details, close, open_run, preview, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="missing-column", run=RUN, **about)

# %% [markdown]
# ### Which rows are written
#
# *Do*: choose, or leave what the plan says. *Expect*: one line. `missing`: rows without a value. `differing`: rows that hold
# another value than the backup too, what users wrote since among them.

# %%
await choose_details(run, CHOICES)

# %% [markdown]
# ## Before anything changes
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: nothing was touched; mend what the row names and run the
# cell again.

# %%
await check_prerequisites(run)

# %% [markdown]
# ### Preview
#
# *Do*: run the cell and read it: how many rows are written, and which are left alone. *Expect*: a digest above the table.
# *If not*: nothing was touched; a backup without the column is named.

# %%
await preview(run)

# %% [markdown]
# ### The approval
#
# *Do*: give the answer asked for. *Expect*: one line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## Back up the database
#
# *Do*: run the cell. *Expect*: a dump, read back, with its hash. *If not*: nothing goes on without a backup, unless
# WAIVE names `back-up` with a reason.

# %%
await apply(run, "back-up")

# %% [markdown]
# ## Restore the column
#
# *Do*: run the cell. *Expect*: the rows written that the preview foretold. *If not*: run the cell again, it goes on where it
# stopped; each row that was written has its undo row.

# %%
await apply(run, "restore-media-url")

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: the run is not verified, and stops; each row says what was
# seen.

# %%
await verify(run)

# %% [markdown]
# ## Close
#
# *Do*: run the cell. *Expect*: VERIFIED, and the pending cleanup; report and log are in the run folder.

# %%
await close(run)
