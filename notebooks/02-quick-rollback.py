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
# # Quick rollback: the frontend alone
#
# Takes the frontend back to its version without the feature, then shows that the API still serves older clients. Where it
# does not, the run goes on as a full rollback.

# %% tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file below parameters/
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
from runbook_lib.notebook import apply, approve, check_prerequisites, look_before, open_run, preview
from runbook_lib.notebook import close, escalate, notify, status, timeline, verify

run = await open_run(
    PLAN, TARGET, type="frontend", run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT, waive=WAIVE
)

# %% [markdown]
# ### Where the run stands
#
# *Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and what became of it, by the
# journal.

# %%
status(run)

# %% [markdown]
# ## Before any downtime
#
# ### Prerequisites
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: nothing was touched; mend what the row names and run the
# cell again.

# %%
await check_prerequisites(run)

# %% [markdown]
# ### Preview
#
# *Do*: run the cell and read it: what each step changes, what it loses, how it is undone. The old version is built in a
# scratch clone. *Expect*: a digest above the table. *If not*: nothing was touched.

# %%
await preview(run)

# %% [markdown]
# ### The page as users see it now
#
# *Do*: run the cell. *Expect*: what is broken shows here as FAIL; the screenshot is kept to be held against the one
# after.

# %%
await look_before(run)

# %% [markdown]
# ### Tell the team that it begins
#
# *Do*: run the cell and send the text. *Expect*: the text with target, reason and whom to send it to. Nothing is sent by
# itself.

# %%
await notify(run, "start")

# %% [markdown]
# ### The one approval
#
# **After this the frontend is replaced.** Users see a restart of a few seconds.
#
# *Do*: give the answer asked for. *Expect*: one line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## Roll back

# %% [markdown]
# ### Freeze what would interfere
#
# *Do*: run the cell. *Expect*: what the target names (deploys, autoscalers, queue consumers) frozen, each by its own check.
# *If not*: nothing was stopped; the row names what goes on.

# %%
await apply(run, "freeze-for-frontend")

# %% [markdown]
# ### Take the frontend's code back
#
# *Do*: run the cell. *Expect*: the feature's commits taken back, later work kept. *If not*: nothing is done twice
# when the cell is run again; the error says what is safe.

# %%
await apply(run, "revert-frontend")

# %% [markdown]
# ### Build the frontend
#
# *Do*: run the cell. *Expect*: a build of the commit that was approved. *If not*: nothing is done twice when the
# cell is run again; the error says what is safe.

# %%
await apply(run, "build-frontend")

# %% [markdown]
# ### Restart the frontend
#
# *Do*: run the cell. *Expect*: it runs in the wanted version. *If not*: read its log; run the cell again.

# %%
await apply(run, "restart-frontend")

# %% [markdown]
# ### Push the frontend
#
# *Do*: run the cell. *Expect*: the remote branch without the feature, so that the next deployment does not return it. *If
# not*: the old version is up already; the row says what is in the way. `WAIVE` with `push-frontend` leaves it for later.

# %%
await apply(run, "push-frontend")

# %% [markdown]
# ### Purge the caches, release what was frozen
#
# *Do*: run both cells. *Expect*: both done; a target without a cache or a freeze says so. *If not*: what is still frozen
# stays in the banner as pending cleanup; run the cell again.

# %%
await apply(run, "purge-cache")

# %% [markdown]
# What somebody else had frozen before stays frozen.

# %%
await apply(run, "release-after-frontend")

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: where only the API's row fails, the next cell goes on to the
# full rollback; anything else stops here.

# %%
await verify(run)

# %% [markdown]
# ## Go on to the full rollback, where it is needed
#
# *Do*: run the cell. *Expect*: “No escalation is called for”, or the name of the notebook to open and the RUN to give it.

# %%
await escalate(run)

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
