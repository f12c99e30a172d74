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
# FEAT-2025-20251103111429: Message replies and attachments. Every check that is possible beforehand runs before the
# first change.
#
# - 2 steps, about 2 min; no service stops.
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question. *Expect* gives
#   the planned time; the preview gives that of the last rehearsal, if known.
# - **If a cell fails**, the cells below do not run. A failed step asks what to do next: retry, undo, escalate,
#   troubleshoot or stop. Running a cell again never repeats a finished step. In commands, RUN is the run folder
#   `outputs/…` of the run that the banner names.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # the plan of the rollback
TARGET: str = "rehearsal"  # a target file, or the name of one below parameters/
CHOICES: str = ""  # what differs from the plan, by name and value: STRATEGY, EDITED, REMOVAL, FILL, …
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
from runbook_lib.notebook import apply, approve, check_prerequisites, choose_details, close, look_before, notify
from runbook_lib.notebook import open_run, preview, status, timeline, undo, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="missing-column", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# Run this cell again whenever the page or the kernel was lost. Then resume at the first step that is not done.
#
# - **Expect**, at once: each step and its state, from the journal. In a terminal: `runbook status RUN`.

# %%
status(run)

# %% [markdown]
# ### Other choices
#
# Choose, or keep what the plan says. Headless, CHOICES gives the answers (`STRATEGY=swap, EDITED=keep`).
#
# - **Expect**, at once: one line for each choice. To choose again: `await choose_details(run, CHOICES, again=True)`.

# %%
choices = await choose_details(run, CHOICES)

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
# **After this approval, the steps below change the target.**
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
# ### Back up the database as it is now
#
# Dumps the database, or makes or checks the target's own backup, and reads all of it. The backup stays in the run
# folder, or where the target keeps it.
#
# - **Expect**, in about 1 min: A readable backup, with its size and SHA-256.
# - **If it fails**: No service was stopped. Free disk space, or end the session that blocks pg_dump. Then apply the
#   step again. To undo it: `await undo(run, "back-up")`.

# %%
await apply(run, "back-up")

# %% [markdown]
# ### Restore media_url alone from the backup
#
# Restores one column, the missing rows, or a missing table from the newest backup. Every row's previous value is kept
# until you purge it.
#
# - **Expect**, in about 1 min: The values of the backup are in the database again. Nothing else changed.
# - **If it fails**: No service was stopped. Read which rows could not be written. Apply the step again to resume, or
#   undo it. To undo it: `await undo(run, "restore-media-url")`.

# %%
await apply(run, "restore-media-url")

# %% [markdown]
# ## Verify
#
# - **Expect**, in seconds, on large tables in minutes: PASS in every row.
# - **If not**: the rollback is not verified, and what was changed stays. Fix what the row names and run the cell again.
#   The notebook 07-troubleshooting looks for known causes; `runbook undo RUN` previews an undo.
#
# The checks:
#
# - All services run, in the expected version.
# - media_url still holds what the backup holds.
# - The API returns mediaUrl.
# - The message thread loads.
# - Every picture and video renders.

# %%
await verify(run)

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
