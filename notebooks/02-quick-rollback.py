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
# FEAT-2025-20251103111429: Message replies and attachments. Every check that is possible beforehand runs before the
# first change.
#
# - 7 steps, about 1 min 40 s; services are down for about 30 s of it.
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question. *Expect* gives
#   the planned time; the preview gives that of the last rehearsal, if known.
# - **If a cell fails**, the cells below do not run. A failed step asks what to do next: retry, undo, escalate,
#   troubleshoot or stop. Running a cell again never repeats a finished step. In commands, RUN is the run folder
#   `outputs/…` of the run that the banner names.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # the plan of the rollback
TARGET: str = "rehearsal"  # a target file, or the name of one below parameters/
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
RUN: str = ""  # the folder of a run to resume; empty begins a new one
APPROVE: str = ""  # headless: the digest of the preview that was approved
WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: a banner with the target's name and colour. Read both.
# - **If it fails**: nothing was touched. Correct the key and file that the error names, then run the cell again.

# %%
from runbook_lib.notebook import apply, approve, check_prerequisites, close, escalate, look_before, notify, open_run
from runbook_lib.notebook import preview, status, timeline, undo, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="frontend", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# Run this cell again whenever the page or the kernel was lost. Then resume at the first step that is not done.
#
# - **Expect**, at once: each step and its state, from the journal. In a terminal: `runbook status RUN`.

# %%
status(run)

# %% [markdown]
# ## Before the first change
#
# ### Prerequisites
#
# - **Expect**, in a few seconds: PASS in every row.
# - **If not**: nothing was touched. Fix what the row names, then run the cell again.

# %%
await check_prerequisites(run)

# %% [markdown]
# ### Preview
#
# Read what each step changes, loses and locks, and how it is undone.
#
# - **Expect**, in seconds, on large tables in minutes: a table, and above it the digest to approve.
# - **If it fails**: nothing was touched. Fix what the error names, then run the cell again.

# %%
await preview(run)

# %% [markdown]
# ### The page as users see it now
#
# - **Expect**, in a few seconds: screenshots for the later comparison. What is broken now shows as FAIL; that stops
#   nothing.

# %%
await look_before(run)

# %% [markdown]
# ### Message to the team: it begins
#
# - **Expect**, at once: the text, and its recipients. Send it yourself; the runbook sends nothing.

# %%
await notify(run, "start")

# %% [markdown]
# ### The approval
#
# **After this approval, the steps below change the target and stop services.**
#
# - **Expect**, in about 1 s after your answer: one line APPROVED, as in the example.
# - **If not**: nothing was touched, and no step below acts. Run `await preview(run)` again, then this cell.
#
# ![Healthy result, an example: the question with the digest, then the line APPROVED](attachment:approved.png)

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## The steps

# %% [markdown]
# ### Freeze deploys, autoscalers and consumers
#
# Runs the target's freeze commands, so that nothing deploys or scales during the rollback. What somebody else froze
# stays theirs. What this run froze is pending cleanup until it is released.
#
# - **Expect**, in about 10 s: Each of the target's checks reports frozen.
# - **If it fails**: No service was stopped. Freeze by hand what the error names, then apply the step again: it finds it
#   frozen. To undo it: `await undo(run, "freeze-for-frontend")`.

# %%
await apply(run, "freeze-for-frontend")

# %% [markdown]
# ### Take the code of frontend back
#
# Reverts the feature's commits, or resets to the commit before them, as previewed in a scratch clone. The previous
# commit stays reachable; an undo returns to it.
#
# - **Expect**, in about 10 s: The checkout holds the commit that the preview named. Other people's files are unchanged.
# - **If it fails**: No service was stopped. Read what blocks the checkout. Apply the step again, or undo it to return
#   to the previous commit. To undo it: `await undo(run, "revert-frontend")`.

# %%
await apply(run, "revert-frontend")

# %% [markdown]
# ### Build frontend
#
# Installs the build that was proven in the scratch clone, without building again, and removes caches. The previous
# build is kept for an undo until you purge it.
#
# - **Expect**, in about 5 s: The build is of the checked-out commit.
# - **If it fails**: No service was stopped. Read the build's output in the evidence, fix the cause, then apply the step
#   again. To undo it: `await undo(run, "build-frontend")`.

# %%
await apply(run, "build-frontend")

# %% [markdown]
# ### Restart frontend
#
# Stops each service and starts it again (frontend). An undo restarts the services with the build that is installed
# then.
#
# - **Expect**, in about 30 s: Each service runs the expected version.
# - **If it fails**: Some services may be down. Read the log of the service that did not start, fix the cause, then
#   apply the step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "restart-frontend")

# %% [markdown]
# ### Push frontend, so that the next deployment does not return the feature
#
# Pushes the code without the feature to the deployed branch, or to a branch for a pull request. The remote's previous
# commit is recorded.
#
# - **Expect**, in about 15 s: The remote branch holds this run's commit.
# - **If it fails**: The services were started again. If the remote refuses, choose PUSH=branch and open the pull
#   request that the step names. To undo it: `await undo(run, "push-frontend")`.

# %%
await apply(run, "push-frontend")

# %% [markdown]
# ### Purge the caches that users are served from
#
# Runs the target's command that empties the cache in front of the services. Nothing needs to be kept: a cache refills
# itself.
#
# - **Expect**, in about 20 s: The command exits with 0, and users get the old version.
# - **If it fails**: The services were started again. Purge the cache by hand, then waive the step or apply it again.
#   `runbook status RUN` shows each step.

# %%
await apply(run, "purge-cache")

# %% [markdown]
# ### Release what was frozen
#
# Runs the target's release commands for what this run froze. What somebody else froze stays frozen.
#
# - **Expect**, in about 10 s: Each of the target's checks reports released.
# - **If it fails**: The services were started again. Release by hand what the error names, then apply the step again:
#   it finds it released. To undo it: `await undo(run, "release-after-frontend")`.

# %%
await apply(run, "release-after-frontend")

# %% [markdown]
# ## Verify
#
# - **Expect**, in seconds, on large tables in minutes: PASS in every row.
# - **If “The API returns mediaUrl” fails**: the rollback is not enough. Run the next cell; it continues the rollback.
# - **If any other check fails**: the rollback is not verified, and what was changed stays. Fix what the row names and
#   run the cell again. The notebook 07-troubleshooting looks for known causes; `runbook undo RUN` previews an undo.
#
# The checks:
#
# - All services run, in the expected version.
# - The API returns mediaUrl.
# - The frontend shows the media that mediaUrl names.
# - No errors in the browser's console.
# - The message thread loads.
# - Every picture and video renders.
# - Users who were there before get the new bundle.

# %%
await verify(run)

# %% [markdown]
# ## If this is not enough: Full: database, backend and frontend
#
# - **Expect**, at once: “No escalation is needed”, or the next notebook and the RUN for it. Finished steps stay.

# %%
await escalate(run)

# %% [markdown]
# ## How long each step took
#
# - **Expect**, at once: the time of each step next to its budget, as a table and a chart.

# %%
timeline(run)

# %% [markdown]
# ## Close
#
# - **Expect**, in about 1 s: VERIFIED, or the notebook in which the run continues. Report and log are in the run
#   folder.
# - **If not**: the rollback is not verified. Fix what the error names, run *Verify* again, then this cell.
# - **Next**: the notebook 05-close-out. `runbook purge RUN` previews the pending cleanup.
#
# ![Healthy result, an example: PASS in every row, and the outcome VERIFIED](attachment:verified.png)

# %%
await close(run)
