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
# # Full rollback: database, backend and frontend
#
# Stops the services, backs the database up, takes the feature's data and code back, starts the old version and shows that
# it works. Everything that can be known beforehand is looked at before the first service stops.

# %% tags=["parameters"]
PLAN: str = "parameters/feat-2025-20251103111429.yaml"  # what the rollback is
TARGET: str = "rehearsal"  # where it runs: a file below parameters/
OPTION: str = "A"  # A clear the backfilled entries, B remove the columns, C restore the database from the backup
CHOICES: str = ""  # other than the plan, a name and its value each: STRATEGY, EDITED, REMOVAL, SALVAGE, CODE, …
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
from runbook_lib.notebook import apply, approve, approve_again, check_prerequisites, choose, look_before, open_run, preview
from runbook_lib.notebook import choose_details, close, compare, escalate, notify, status, timeline, verify

run = await open_run(PLAN, TARGET, type="full", run=RUN, operator=OPERATOR, reason=REASON, incident=INCIDENT, waive=WAIVE)

# %% [markdown]
# ### Where the run stands
#
# *Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and what became of it, by the
# journal.

# %%
status(run)

# %% [markdown]
# ### What happens to the data
#
# *Do*: choose. *Expect*: one line that says what was chosen. A: the backfilled entries go, what users added stays. B: the
# feature's columns go, with what users put into them. C: the whole database goes back to the backup; what was written
# since is lost, and counted first. Cells of another option than the chosen one say so and do nothing.

# %%
option = await choose(run, "OPTION", OPTION)

# %% [markdown]
# ### What else is open
#
# *Do*: choose, or leave what the plan says; headless, CHOICES (`STRATEGY=swap, EDITED=keep`). *Expect*: one line for each.
# A: the strategy, and what becomes of entries that users edited. B: columns set aside or dropped. C: what becomes of rows
# written since the backup, of tables that it lacks or that cannot be counted. CODE: the feature's commits reverted, or
# reset away where nothing lies on top of them.

# %%
await choose_details(run, CHOICES)

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
# **After this the services stop.** Users see an outage until the frontend is started again.
#
# *Do*: give the answer asked for. *Expect*: one line APPROVED. *If not*: nothing was touched, and no step below will act.

# %%
await approve(run, APPROVE)

# %% [markdown]
# ### Option C: restore the backup aside
#
# *Do*: run the cell. *Expect*: the backup in a database of its own beside the live one, and each table compared with it;
# users notice nothing. *If not*: the live database was only read; what was restored is dropped when the cell is run again.

# %%
await apply(run, "restore-aside")

# %% [markdown]
# ### Option C: approve the loss
#
# **What is lost is known only now.** *Do*: read the loss, row by row of the ledger, and approve the new preview; headless,
# run again with its digest. *Expect*: APPROVED. Where nothing has drifted, as with the other options, the first approval
# stands and nothing is asked. *If not*: no service was stopped.

# %%
await approve_again(run, APPROVE)

# %% [markdown]
# ## Stop and back up

# %% [markdown]
# ### Freeze what would interfere
#
# *Do*: run the cell. *Expect*: what the target names (deploys, autoscalers, queue consumers) frozen, each by its own check.
# *If not*: nothing was stopped; the row names what goes on.

# %%
await apply(run, "freeze")

# %% [markdown]
# ### Stop the services
#
# *Do*: run the cell. *Expect*: all stopped, none of their database connections left. *If not*: the row names what
# still runs or which connection is left.

# %%
await apply(run, "stop-services")

# %% [markdown]
# ### Option B: keep the application out of the database
#
# *Do*: run the cell. *Expect*: its role cannot connect, and none of its connections is left. *If not*: where it cannot be
# kept out, the row says so; only a typed reason goes on.

# %%
await apply(run, "fence-application")

# %% [markdown]
# ### Back up the database
#
# *Do*: run the cell. *Expect*: a dump, read back, with its hash. *If not*: nothing goes on without a backup, unless
# WAIVE names `back-up` with a reason. With option C that may be the corruption itself: the old database is kept whole.

# %%
await apply(run, "back-up")

# %% [markdown]
# ## Roll back the data
#
# **From here the data change.** Each changed row leaves an undo row, committed with it.

# %% [markdown]
# ### Clear the backfilled entries
#
# *Do*: run the cell. *Expect*: no backfilled entry left, and equal fingerprints of all else. *If not*: do not go
# on; the line names the rows to look at.

# %%
await apply(run, "clear-backfill")

# %% [markdown]
# ### Option C: put the restored database in place
#
# *Do*: run the cell. *Expect*: the names exchanged, the old database kept under a dated name, the loss the one approved.
# *If not*: where more was written since, nothing was changed: run the cell *approve the loss* again, then this one.

# %%
await apply(run, "swap-database")

# %% [markdown]
# ## Roll back the backend

# %% [markdown]
# ### Take the backend's code back
#
# *Do*: run the cell. *Expect*: the feature's commits taken back, the migration's file kept with its schema. *If
# not*: nothing is done twice when the cell is run again; the error says what is safe.

# %%
await apply(run, "revert-backend")

# %% [markdown]
# ### Build the backend
#
# *Do*: run the cell. *Expect*: a build of the commit that was approved. *If not*: nothing is done twice when the
# cell is run again; the error says what is safe.

# %%
await apply(run, "build-backend")

# %% [markdown]
# ### Option B: remove the feature's columns
#
# **What the feature's columns hold is users' data too.** Set aside, they can be renamed back; dropped, they come back from
# a copy, until that is purged.
#
# *Do*: run the cell. *Expect*: columns, indexes and constraint gone from the table, all else as it was. *If not*: nothing
# is taken along that hangs on them; the row names it, and who is in the way of the lock.

# %%
await apply(run, "remove-columns")

# %% [markdown]
# ### Option B: let the application in again
#
# *Do*: run the cell. *Expect*: its role may connect as before. *If not*: it stays out; run the cell again.

# %%
await apply(run, "let-application-in")

# %% [markdown]
# ### Start the backend and its worker
#
# *Do*: run the cell. *Expect*: both run in the wanted version. *If not*: read the log; run the cell again.

# %%
await apply(run, "start-backend")

# %% [markdown]
# ## Roll back the frontend

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
# ### Start the frontend
#
# *Do*: run the cell. *Expect*: it runs in the wanted version. *If not*: read the log; run the cell again.

# %%
await apply(run, "start-frontend")

# %% [markdown]
# ## Push
#
# ### Push the backend
#
# *Do*: run the cell. *Expect*: the remote branch without the feature, so that the next deployment does not return it. *If
# not*: the old version is up already; the row says what is in the way. `WAIVE` with `push-backend` leaves it for later.

# %%
await apply(run, "push-backend")

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
await apply(run, "release")

# %% [markdown]
# ## Before and after
#
# *Do*: run the cell. *Expect*: the rows of each kind as the preview foretold; entries of the users' own are all there.

# %%
await compare(run)

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: where the data are not intact, the next cell goes on to the
# restore; anything else stops here, and each row says what was seen.

# %%
await verify(run)

# %% [markdown]
# ## Go on to the restore, where it is needed
#
# *Do*: run the cell. *Expect*: “No escalation is called for”, or that this same notebook is to be run again from the top
# with the RUN named: what is done stays done, and option C is what is left to choose.

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
# *Do*: run the cell. *Expect*: VERIFIED; report and log are in the run folder.

# %%
await close(run)
