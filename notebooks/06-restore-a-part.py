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
# # Restore media_url alone from the backup
#
# FEAT-2025-20251103111429: Message replies and attachments. Everything that can be known beforehand is looked at before
# the first change.
#
# - 2 steps, about 2 min; no service stops.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file, or the name of one below parameters/
CHOICES: str = ""  # other than the plan, a name and its value each: STRATEGY, EDITED, REMOVAL, FILL, …
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a run to resume; empty begins a new one
APPROVE: str = ""  # headless: the digest of the preview that was approved
WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail

# %% [markdown]
# ## Open the run
#
# *Do*: run the cell. *Expect*: a banner with the target's name and colour; read both. *If not*: the message names the
# file and the key to correct.

# %%
from runbook_lib.notebook import apply, approve, check_prerequisites, choose_details, close, look_before, notify
from runbook_lib.notebook import open_run, preview, status, timeline, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="missing-column", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# *Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and its state, by the
# journal.

# %%
status(run)

# %% [markdown]
# ### What else is open
#
# *Do*: choose, or leave what the plan says; headless, CHOICES (`STRATEGY=swap, EDITED=keep`). *Expect*: one line for
# each.

# %%
await choose_details(run, CHOICES)

# %% [markdown]
# ## Before the first change
#
# ### Prerequisites
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: nothing was touched; correct what the row names and run the
# cell again.

# %%
await check_prerequisites(run)

# %% [markdown]
# ### Preview
#
# *Do*: run the cell and read it: what each step changes, what it loses, how it is undone. *Expect*: a digest above the
# table. *If not*: nothing was touched.

# %%
await preview(run)

# %% [markdown]
# ### The page as users see it now
#
# *Do*: run the cell. *Expect*: what is broken shows here as FAIL; the screenshot is kept, to be compared with the one
# after.

# %%
await look_before(run)

# %% [markdown]
# ### Tell the team that it begins
#
# *Do*: run the cell and send the text. *Expect*: the text with target, reason and whom to send it to. Nothing is sent
# by itself.

# %%
await notify(run, "start")

# %% [markdown]
# ### The approval
#
# **After this the steps below change the target.** *Do*: give the answer asked for. *Expect*: one line APPROVED. *If
# not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## The steps

# %% [markdown]
# ### Back up the database as it is now
#
# Dumps the database, or makes or checks the target's own backup, and reads it through. *Kept*: The backup stays in the
# run folder or where the target keeps it. *Takes*: about 1 min.
#
# *Do*: run the cell. *Expect*: A backup that can be read, with its size and SHA-256. *If not*: Make room on the disk,
# or end what blocks pg_dump; apply the step again.

# %%
await apply(run, "back-up")

# %% [markdown]
# ### Restore media_url alone from the backup
#
# Brings one column, the missing rows, or a table that is gone back from the newest backup. *Kept*: Every row's earlier
# value is kept until you purge it. *Takes*: about 1 min.
#
# *Do*: run the cell. *Expect*: What the backup holds is there again; nothing else changed. *If not*: Read which rows
# could not be written; apply again to resume, or undo the step.

# %%
await apply(run, "restore-media-url")

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: the run is not verified, and stops; each row says what was
# seen.
#
# - All services run, in the wanted version.
# - media_url still holds what the backup holds.
# - The API returns mediaUrl.
# - The message thread loads.
# - Every picture and video renders.

# %%
await verify(run)

# %% [markdown]
# ## How long each step took
#
# *Do*: run the cell. *Expect*: each step against its budget, as a table and a plot.

# %%
timeline(run)

# %% [markdown]
# ## Close
#
# *Do*: run the cell. *Expect*: VERIFIED, or that the run goes on; report and log are in the run folder.

# %%
await close(run)
