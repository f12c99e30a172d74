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
# # Roll back a fleet
#
# One approved plan, many targets, in waves. Each target has an ordinary run with its own folder, journal, undo and
# report. A target that cannot be previewed is held back by name; the others continue.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again. A finished
#   step is never done twice. To resume later, set FLEET to the folder that the banner names.

# %% jupyter={"source_hidden": true} tags=["parameters"]
FLEET: str = ""  # a fleet file, or the folder of a fleet's run to resume
APPROVE: str = ""  # headless: the digest of the preview that was approved
OPERATOR: str = ""  # who is at the keyboard
REASON: str = ""  # why, for the log
INCIDENT: str = ""  # the incident's number
ENGINE: str = "dask"  # dask or threads
SCHEDULER: str = ""  # the address of a team's Dask cluster, in place of this machine
TLS: str = ""  # for a scheduler at tls://: the YAML file with Dask's TLS keys

# %% [markdown]
# ## Open the fleet
#
# - **Expect**, in a few seconds: the banner of the fleet with its folder. Read its name and the number of targets.
# - **On a team's cluster**: expand the cell of parameters above, and set SCHEDULER and TLS in it.
# - **If it fails**: nothing was touched. Correct the key and file that the error names, then run the cell again.

# %%
from runbook_lib.fleet.notebook import approve, choose, finish, open_fleet, preview, retry_failed, status
from runbook_lib.fleet.notebook import undo_done, walk

about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT}
fleet = await open_fleet(FLEET, engine=ENGINE, scheduler=SCHEDULER, tls=TLS, **about)

# %% [markdown]
# ## How the targets are rolled back
#
# You may be more careful than the fleet file, never less. Headless, the file decides.
#
# - **Expect**, at once: questions where you have a choice, then a table with canaries, waves and limits.
# - **To choose again**, before the first target begins: `await choose(fleet, again=True)`.

# %%
await choose(fleet)

# %% [markdown]
# ## Preview
#
# Read the totals first: what changes, what users lose, which targets are held back. The table begins with the outliers.
#
# - **Expect**, in seconds for each target: one row a target, and a digest that covers all that are ready.
# - **If a target is held back**: it stays as it is. Fix what its row names, then run the cell again, or continue
#   without it.

# %%
await preview(fleet)

# %% [markdown]
# ## The approval
#
# **After this approval, the cells below change the targets that are ready.** On production you type the fleet's name.
#
# - **Expect**, at once after your answer: one line APPROVED with the number of targets.
# - **If not**: nothing was touched, and no cell below acts. Run the preview again, then this cell.

# %%
await approve(fleet, APPROVE)

# %% [markdown]
# ## Roll back, wave after wave
#
# The board shows every target by colour and word, the rate, the expected end, and each failure with its reason.
# *Pause*, *Resume* and *Abort* act on the whole fleet.
#
# - **Expect**, in the estimated time: FINISHED, with every target verified.
# - **If it stops or is mixed**: finished targets stay rolled back. Targets without a tile in colour were not begun. Run
#   the cell again to resume, or continue with the cells below.

# %%
await walk(fleet)

# %% [markdown]
# ## Retry the failed targets
#
# Fix what the reasons name first. Each target is probed before a step acts again.
#
# - **Expect**, at once: “No target failed”, or a question; then the board of those targets.

# %%
await retry_failed(fleet)

# %% [markdown]
# ## Undo those done
#
# For a fleet that must not stay mixed: undoes every target that was changed, the last wave first.
#
# - **Expect**, at once: a question, unless all targets are rolled back; then the preview of the undo and its approval.
# - **To undo a finished fleet**: `await undo_done(fleet, finished_too=True)`. In a terminal: `runbook fleet undo
#   FLEET`.

# %%
await undo_done(fleet)

# %% [markdown]
# ## Status of the fleet
#
# - **Expect**, at once: the current state of each target, from the journals alone.

# %%
status(fleet)

# %% [markdown]
# ## Finish
#
# - **Expect**, at once: FINISHED, or UNDONE. Each target's folder holds its report, and its notebook as rendered from
#   its journal.
# - **If not**: the error names how many targets have which state, and the commands to finish or to undo.

# %%
finish(fleet)
