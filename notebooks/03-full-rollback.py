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
# # Full: database, backend and frontend
#
# FEAT-2025-20251103111429: Message replies and attachments. Every check that is possible beforehand runs before the
# first change.
#
# - Option A, Clear the backfilled entries, keep the columns: 13 steps, about 5 min 30 s; services are down for about 4
#   min 20 s of it.
# - Option B, Remove the columns that the feature added: 15 steps, about 4 min 45 s; services are down for about 3 min
#   35 s of it.
# - Option C, Restore the database from the backup: 16 steps, about 7 min 45 s; services are down for about 3 min 35 s
#   of it.
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question. *Expect* gives
#   the planned time; the preview gives that of the last rehearsal, if known.
# - **If a cell fails**, the cells below do not run. A failed step asks what to do next: retry, undo, escalate,
#   troubleshoot or stop. Running a cell again never repeats a finished step. In commands, RUN is the run folder
#   `outputs/…` of the run that the banner names.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # the plan of the rollback
TARGET: str = "rehearsal"  # a target file, or the name of one below parameters/
OPTION: str = "A"  # what happens to the data: one of those above
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
from runbook_lib.notebook import apply, approve, approve_again, check_prerequisites, choose, choose_details, close
from runbook_lib.notebook import compare, escalate, look_before, notify, open_run, preview, status, timeline, undo
from runbook_lib.notebook import verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="full", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# Run this cell again whenever the page or the kernel was lost. Then resume at the first step that is not done.
#
# - **Expect**, at once: each step and its state, from the journal. In a terminal: `runbook status RUN`.

# %%
status(run)

# %% [markdown]
# ### What happens to the data
#
# - **Expect**, in a few seconds: what each option changes and loses, and a question; then one line with your choice.
# - **To choose again**: `await choose(run, "OPTION", OPTION, again=True)`. Cells of other options do nothing.
#
# The options:
#
# - A: Clear the backfilled entries, keep the columns.
# - B: Remove the columns that the feature added.
# - C: Restore the database from the backup.

# %%
option = await choose(run, "OPTION", OPTION)

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
# ### Option C: restore the backup to a staging database
#
# **Option C only.** With another option this cell says so and does nothing.
#
# Restores the newest backup to a staging database and compares it with the live one row by row. The live database is
# not touched.
#
# - **Expect**, in about 3 min: A complete staging database, and the number of rows that going back would lose.
# - **If it fails**: No service was stopped. Read what pg_restore reports. Free disk space or grant the right it names,
#   then apply the step again. To undo it: `await undo(run, "restore-staging")`.

# %%
await apply(run, "restore-staging")

# %% [markdown]
# ### Approve the loss
#
# **The loss is counted only now.** Read the new preview and approve it. Headless, run again with its digest.
#
# - **Expect**: one line APPROVED. If nothing has drifted, the first approval holds and nothing is asked.
# - **If not**: no service was stopped. Run the cell again, or undo the restore with the call above.

# %%
await approve_again(run, APPROVE)

# %% [markdown]
# ### Freeze deploys, autoscalers and consumers
#
# Runs the target's freeze commands, so that nothing deploys or scales during the rollback. What somebody else froze
# stays theirs. What this run froze is pending cleanup until it is released.
#
# - **Expect**, in about 10 s: Each of the target's checks reports frozen.
# - **If it fails**: No service was stopped. Freeze by hand what the error names, then apply the step again: it finds it
#   frozen. To undo it: `await undo(run, "freeze")`.

# %%
await apply(run, "freeze")

# %% [markdown]
# ### Stop the services
#
# Stops each service in the plan's order (frontend, worker, backend). Each service can be started again.
#
# - **Expect**, in about 20 s: The services have no process, open port or database connection left.
# - **If it fails**: Some services may be down. Read the log of the service that still runs. Apply the step again when
#   it has ended. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "stop-services")

# %% [markdown]
# ### Keep the application out of the database
#
# **Option B or C only.** With another option this cell says so and does nothing.
#
# Refuses new connections of the application's role and ends existing ones. The removed rights are recorded in the
# database and given back later.
#
# - **Expect**, in about 10 s: The application has no connection, and cannot make one.
# - **If it fails**: Stopped services stay down. Stop the client that can still connect, or change the grant the error
#   names. Then apply the step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "fence-application")

# %% [markdown]
# ### Back up the database as it is now
#
# Dumps the database, or makes or checks the target's own backup, and reads all of it. The backup stays in the run
# folder, or where the target keeps it.
#
# - **Expect**, in about 1 min: A readable backup, with its size and SHA-256.
# - **If it fails**: Stopped services stay down. Free disk space, or end the session that blocks pg_dump. Then apply the
#   step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "back-up")

# %% [markdown]
# ### Option A: clear the backfilled entries
#
# **Option A only.** With another option this cell says so and does nothing.
#
# Removes the entries that the backfill wrote, in the approved rows. Every row's previous value is kept until you purge
# it.
#
# - **Expect**, in about 2 min: No backfilled entry is left. The proof shows that nothing else changed.
# - **If it fails**: Stopped services stay down. Read which rows the proof names. Apply the step again to resume, or
#   undo it. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "clear-backfill")

# %% [markdown]
# ### Option C: put the restored database in place
#
# **Option C only.** With another option this cell says so and does nothing.
#
# Renames both databases in one short moment with nobody connected. The old database is kept until you purge it.
#
# - **Expect**, in about 1 min: The restored database has the live name. The old database is kept.
# - **If it fails**: Stopped services stay down. Read who is still connected. Apply the step again to resume, or undo it
#   to rename back. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "swap-database")

# %% [markdown]
# ### Take the code of backend back
#
# Reverts the feature's commits, or resets to the commit before them, as previewed in a scratch clone. The previous
# commit stays reachable; an undo returns to it.
#
# - **Expect**, in about 10 s: The checkout holds the commit that the preview named. Other people's files are unchanged.
# - **If it fails**: Stopped services stay down. Read what blocks the checkout. Apply the step again, or undo it to
#   return to the previous commit. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "revert-backend")

# %% [markdown]
# ### Build backend
#
# Installs the build that was proven in the scratch clone, without building again, and removes caches. The previous
# build is kept for an undo until you purge it.
#
# - **Expect**, in about 5 s: The build is of the checked-out commit.
# - **If it fails**: Stopped services stay down. Read the build's output in the evidence, fix the cause, then apply the
#   step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "build-backend")

# %% [markdown]
# ### Option B: remove the feature's columns
#
# **Option B only.** With another option this cell says so and does nothing.
#
# Renames the feature's columns out of the way, or copies and drops them. The columns' values are kept until you purge
# them.
#
# - **Expect**, in about 1 min: The catalog is the same as before the migration.
# - **If it fails**: Stopped services stay down. Read what blocks the lock, or what depends on the columns. Apply the
#   step again, or undo it. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "remove-columns")

# %% [markdown]
# ### Take the code of frontend back
#
# Reverts the feature's commits, or resets to the commit before them, as previewed in a scratch clone. The previous
# commit stays reachable; an undo returns to it.
#
# - **Expect**, in about 10 s: The checkout holds the commit that the preview named. Other people's files are unchanged.
# - **If it fails**: Stopped services stay down. Read what blocks the checkout. Apply the step again, or undo it to
#   return to the previous commit. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "revert-frontend")

# %% [markdown]
# ### Build frontend
#
# Installs the build that was proven in the scratch clone, without building again, and removes caches. The previous
# build is kept for an undo until you purge it.
#
# - **Expect**, in about 5 s: The build is of the checked-out commit.
# - **If it fails**: Stopped services stay down. Read the build's output in the evidence, fix the cause, then apply the
#   step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "build-frontend")

# %% [markdown]
# ### Let the application into the database again
#
# **Option B or C only.** With another option this cell says so and does nothing.
#
# Gives the application's role back the rights that the fence removed. The rights are the same as before the fence.
#
# - **Expect**, in about 5 s: The application's role can connect.
# - **If it fails**: Stopped services stay down. Grant by hand the right that the error names, then apply the step
#   again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "let-application-in")

# %% [markdown]
# ### Start the services
#
# Starts each service in the plan's order and waits until it reports its version (backend, worker, frontend). Each
# service can be stopped again.
#
# - **Expect**, in about 30 s: Each service runs the expected version.
# - **If it fails**: Some services may be down. Read the log of the service that did not start, fix the cause, then
#   apply the step again. `runbook service-back RUN` shows the shortest way to running services.

# %%
await apply(run, "start-services")

# %% [markdown]
# ### Push backend, so that the next deployment does not return the feature
#
# Pushes the code without the feature to the deployed branch, or to a branch for a pull request. The remote's previous
# commit is recorded.
#
# - **Expect**, in about 15 s: The remote branch holds this run's commit.
# - **If it fails**: The services were started again. If the remote refuses, choose PUSH=branch and open the pull
#   request that the step names. To undo it: `await undo(run, "push-backend")`.

# %%
await apply(run, "push-backend")

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
#   it finds it released. To undo it: `await undo(run, "release")`.

# %%
await apply(run, "release")

# %% [markdown]
# ## Before and after
#
# - **Expect**, in about 1 s: the row counts that the preview announced.
# - **If they differ**: this cell changes nothing. `runbook undo RUN` previews how to put the data back.

# %%
await compare(run)

# %% [markdown]
# ## Verify
#
# - **Expect**, in seconds, on large tables in minutes: PASS in every row.
# - **If “The column holds lists of objects and the backfill's own entries” fails**: the rollback is not enough. Run the
#   next cell; it continues the rollback.
# - **If any other check fails**: the rollback is not verified, and what was changed stays. Fix what the row names and
#   run the cell again. The notebook 07-troubleshooting looks for known causes; `runbook undo RUN` previews an undo.
#
# The checks:
#
# - All services run, in the expected version.
# - The schema is what this rollback leaves.
# - The API returns mediaUrl.
# - The API returns no attachments, or empty ones.
# - The frontend shows the media that mediaUrl names.
# - No errors in the browser's console.
# - No errors in the backend's log since its start.
# - The message thread loads.
# - Every picture and video renders.
# - Users who were there before get the new bundle.
# - Performance is normal.
# - No statement of the application is slow.
# - The column holds lists of objects and the backfill's own entries.
# - Nothing changed but what was approved.

# %%
await verify(run)

# %% [markdown]
# ## If this is not enough: Full restore of the database
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
