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
# # Quick: frontend alone
#
# FEAT-2025-20251103111429: Message replies and attachments. Everything that can be known beforehand is looked at before
# the first change.
#
# - 7 steps, about 1 min 40 s; services are down for about 30 s of it.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file, or the name of one below parameters/
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
from runbook_lib.notebook import apply, approve, check_prerequisites, close, escalate, look_before, notify, open_run
from runbook_lib.notebook import preview, status, timeline, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="frontend", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# *Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and its state, by the
# journal.

# %%
status(run)

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
# **After this the steps below change the target, and services stop.** *Do*: give the answer asked for. *Expect*: one
# line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## The steps

# %% [markdown]
# ### Freeze deploys, autoscalers and consumers
#
# Runs the target's freeze commands, so that nothing deploys or scales meanwhile. *Kept*: What somebody else froze stays
# theirs; what this run froze is pending cleanup until it is released. *Takes*: about 10 s.
#
# *Do*: run the cell. *Expect*: Each of the target's checks reports frozen. *If not*: Freeze by hand what is named, and
# apply the step again: it finds it frozen.

# %%
await apply(run, "freeze-for-frontend")

# %% [markdown]
# ### Take the code of frontend back
#
# Commits the reverse of the feature's commits, or resets to before them, as previewed in a scratch clone. *Kept*: The
# commit from before stays reachable and is what an undo returns to. *Takes*: about 10 s.
#
# *Do*: run the cell. *Expect*: The checkout holds the commit that the preview named; files of others are unchanged. *If
# not*: Read what is in the way in the checkout; apply again, or undo to return to the commit from before.

# %%
await apply(run, "revert-frontend")

# %% [markdown]
# ### Build frontend
#
# Puts the build in place that was proven in the scratch clone: it is not built again, and caches are removed. *Kept*:
# What was built before is kept for an undo, until it is purged. *Takes*: about 5 s.
#
# *Do*: run the cell. *Expect*: The build is of the commit that is checked out. *If not*: Read the build's output in the
# evidence; fix its cause and apply again.

# %%
await apply(run, "build-frontend")

# %% [markdown]
# ### Restart frontend
#
# Stops each service and starts it again (frontend). *Kept*: An undo restarts the services in whatever is built by then.
# *Takes*: about 30 s.
#
# *Do*: run the cell. *Expect*: Each service runs in the wanted version. *If not*: Read the log of the service that did
# not come up; apply the step again when its cause is fixed.

# %%
await apply(run, "restart-frontend")

# %% [markdown]
# ### Push frontend, so that the next deployment does not return the feature
#
# Pushes the code without the feature to the branch that is deployed, or to a branch for a pull request. *Kept*: The
# remote's commit from before is recorded. *Takes*: about 15 s.
#
# *Do*: run the cell. *Expect*: The remote branch holds this run's commit. *If not*: Where the remote refuses, choose
# PUSH=branch and open the pull request that is named.

# %%
await apply(run, "push-frontend")

# %% [markdown]
# ### Purge the caches that users are served from
#
# Runs the target's command that empties the cache in front of the services. *Kept*: Nothing: a cache fills itself
# again. *Takes*: about 20 s.
#
# *Do*: run the cell. *Expect*: The command ends with 0; users are served the old version. *If not*: Purge the cache by
# hand, then waive the step or apply it again.

# %%
await apply(run, "purge-cache")

# %% [markdown]
# ### Release what was frozen
#
# Runs the target's release commands for what this run froze. *Kept*: What somebody else froze stays frozen. *Takes*:
# about 10 s.
#
# *Do*: run the cell. *Expect*: Each of the target's checks reports released. *If not*: Release by hand what is named,
# and apply the step again: it finds it released.

# %%
await apply(run, "release-after-frontend")

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: where “The API returns mediaUrl” fails, the next cell goes
# on; anything else stops here.
#
# - All services run, in the wanted version.
# - The API returns mediaUrl.
# - The frontend shows the media that mediaUrl names.
# - No errors in the browser's console.
# - The message thread loads.
# - Every picture and video renders.
# - Users who were there before get the new bundle.

# %%
await verify(run)

# %% [markdown]
# ## Where it is not enough: Full: database, backend and frontend
#
# *Do*: run the cell. *Expect*: “No escalation is called for”, or the notebook to open with the RUN to give it. What is
# done stays done.

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
