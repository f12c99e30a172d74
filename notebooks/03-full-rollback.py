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
# FEAT-2025-20251103111429: Message replies and attachments. Everything that can be known beforehand is looked at before
# the first change.
#
# - Option A, Clear the backfilled entries, keep the columns: 13 steps, about 5 min 30 s; services are down for about 4
#   min 20 s of it.
# - Option B, Remove the columns that the feature added: 15 steps, about 4 min 45 s; services are down for about 3 min
#   35 s of it.
# - Option C, Restore the database from the backup: 16 steps, about 7 min 45 s; services are down for about 3 min 35 s
#   of it.

# %% jupyter={"source_hidden": true} tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file, or the name of one below parameters/
OPTION: str = "A"  # what happens to the data: one of those above
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
from runbook_lib.notebook import apply, approve, approve_again, check_prerequisites, choose, choose_details, close
from runbook_lib.notebook import compare, escalate, look_before, notify, open_run, preview, status, timeline, verify

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}
run = await open_run(PLAN, TARGET, type="full", run=RUN, **about)

# %% [markdown]
# ### The state of the run
#
# *Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and its state, by the
# journal.

# %%
status(run)

# %% [markdown]
# ### What happens to the data
#
# *Do*: choose. *Expect*: one line that says what was chosen. The cells of another option say so and do nothing.
#
# - A: Clear the backfilled entries, keep the columns.
# - B: Remove the columns that the feature added.
# - C: Restore the database from the backup.

# %%
option = await choose(run, "OPTION", OPTION)

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
# **After this the steps below change the target, and services stop.** *Do*: give the answer asked for. *Expect*: one
# line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ## The steps

# %% [markdown]
# ### Option C: restore the backup to a staging database
#
# **Option C only.** With another one the cell says so and does nothing.
#
# Restores the newest backup next to the live database and compares the two row by row. *Kept*: The live database is not
# touched. *Takes*: about 3 min.
#
# *Do*: run the cell. *Expect*: A complete staging database, and the number of rows that going back would lose. *If
# not*: Read what pg_restore reports; make room or fix the right that is named, and apply again.

# %%
await apply(run, "restore-staging")

# %% [markdown]
# ### Approve the loss
#
# **The loss is counted only now.** *Do*: read the new preview and approve it; headless, run again with its digest.
# *Expect*: APPROVED. Where nothing has drifted, as with any other option, the first approval holds and nothing is
# asked. *If not*: no service was stopped.

# %%
await approve_again(run, APPROVE)

# %% [markdown]
# ### Freeze deploys, autoscalers and consumers
#
# Runs the target's freeze commands, so that nothing deploys or scales meanwhile. *Kept*: What somebody else froze stays
# theirs; what this run froze is pending cleanup until it is released. *Takes*: about 10 s.
#
# *Do*: run the cell. *Expect*: Each of the target's checks reports frozen. *If not*: Freeze by hand what is named, and
# apply the step again: it finds it frozen.

# %%
await apply(run, "freeze")

# %% [markdown]
# ### Stop the services
#
# Stops each service in the plan's order (frontend, worker, backend). *Kept*: Each service can be started again.
# *Takes*: about 20 s.
#
# *Do*: run the cell. *Expect*: No process of theirs, no open port and no database connection is left. *If not*: Read
# the log of the service that still runs; apply the step again when it has ended.

# %%
await apply(run, "stop-services")

# %% [markdown]
# ### Keep the application out of the database
#
# **Option B or C only.** With another one the cell says so and does nothing.
#
# Refuses new connections of the application's role and ends those that exist. *Kept*: The rights that were taken are
# recorded in the database and given back. *Takes*: about 10 s.
#
# *Do*: run the cell. *Expect*: No connection of the application is left, and none can be made. *If not*: Read who may
# still connect; stop that client, or change the grant that is named.

# %%
await apply(run, "fence-application")

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
# ### Option A: clear the backfilled entries
#
# **Option A only.** With another one the cell says so and does nothing.
#
# Removes the entries that the backfill wrote, in the rows that were approved. *Kept*: Every row's earlier value is kept
# until you purge it. *Takes*: about 2 min.
#
# *Do*: run the cell. *Expect*: No backfilled entry is left, and the proof shows that nothing else changed. *If not*:
# Read which rows the proof names; apply again to resume, or undo the step.

# %%
await apply(run, "clear-backfill")

# %% [markdown]
# ### Option C: put the restored database in place
#
# **Option C only.** With another one the cell says so and does nothing.
#
# Renames both databases in one short moment with nobody connected. *Kept*: The old database is kept until you purge it.
# *Takes*: about 1 min.
#
# *Do*: run the cell. *Expect*: The restored database bears the live one's name; the old one is kept. *If not*: Read who
# is still connected; apply again to resume, or undo to rename back.

# %%
await apply(run, "swap-database")

# %% [markdown]
# ### Take the code of backend back
#
# Commits the reverse of the feature's commits, or resets to before them, as previewed in a scratch clone. *Kept*: The
# commit from before stays reachable and is what an undo returns to. *Takes*: about 10 s.
#
# *Do*: run the cell. *Expect*: The checkout holds the commit that the preview named; files of others are unchanged. *If
# not*: Read what is in the way in the checkout; apply again, or undo to return to the commit from before.

# %%
await apply(run, "revert-backend")

# %% [markdown]
# ### Build backend
#
# Puts the build in place that was proven in the scratch clone: it is not built again, and caches are removed. *Kept*:
# What was built before is kept for an undo, until it is purged. *Takes*: about 5 s.
#
# *Do*: run the cell. *Expect*: The build is of the commit that is checked out. *If not*: Read the build's output in the
# evidence; fix its cause and apply again.

# %%
await apply(run, "build-backend")

# %% [markdown]
# ### Option B: remove the feature's columns
#
# **Option B only.** With another one the cell says so and does nothing.
#
# Renames the feature's columns out of the way, or copies and drops them. *Kept*: The columns' values are kept until you
# purge them. *Takes*: about 1 min.
#
# *Do*: run the cell. *Expect*: The catalog is the one from before the migration. *If not*: Read what is in the way of
# the lock, or what hangs on the columns; apply again or undo.

# %%
await apply(run, "remove-columns")

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
# ### Let the application into the database again
#
# **Option B or C only.** With another one the cell says so and does nothing.
#
# Gives the application's role back the rights that the fence took. *Kept*: The rights are those from before the fence.
# *Takes*: about 5 s.
#
# *Do*: run the cell. *Expect*: The application's role can connect. *If not*: Grant the right that is named by hand, and
# apply the step again.

# %%
await apply(run, "let-application-in")

# %% [markdown]
# ### Start the services
#
# Starts each service in the plan's order and waits until it reports its version (backend, worker, frontend). *Kept*:
# Each service can be stopped again. *Takes*: about 30 s.
#
# *Do*: run the cell. *Expect*: Each service runs in the wanted version. *If not*: Read the log of the service that did
# not come up; apply the step again when its cause is fixed.

# %%
await apply(run, "start-services")

# %% [markdown]
# ### Push backend, so that the next deployment does not return the feature
#
# Pushes the code without the feature to the branch that is deployed, or to a branch for a pull request. *Kept*: The
# remote's commit from before is recorded. *Takes*: about 15 s.
#
# *Do*: run the cell. *Expect*: The remote branch holds this run's commit. *If not*: Where the remote refuses, choose
# PUSH=branch and open the pull request that is named.

# %%
await apply(run, "push-backend")

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
await apply(run, "release")

# %% [markdown]
# ## Before and after
#
# *Do*: run the cell. *Expect*: the rows of each kind as the preview announced.

# %%
await compare(run)

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: where “The column holds lists of objects and the backfill's
# own entries” fails, the next cell goes on; anything else stops here.
#
# - All services run, in the wanted version.
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
# ## Where it is not enough: Full restore of the database
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
