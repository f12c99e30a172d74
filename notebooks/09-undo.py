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
# # Undo a run
#
# Puts back what a run changed, newest step first: the whole run, or one step of it. What someone changed since stays, and is
# counted. Undo data that was deleted by `runbook purge` cannot be put back.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to undo
OPERATOR: str = ""  # who is at the keyboard
STEP: str = ""  # one step; empty for the whole run
APPROVE: str = ""  # headless: the digest of the undo that was approved

# %% [markdown]
# ## Open the run
#
# *Do*: run the cell. *Expect*: the run's banner. *If not*: RUN names no run folder.

# %%
from runbook_lib.notebook import resume, status, undo_preview, undo_run

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Preview
#
# *Do*: run the cell and read it. *Expect*: each step with how it is undone and what stays as it is, and a digest.
# *If not*: the column "cannot, because" names what blocks a step. Nothing was changed.

# %%
await undo_preview(run, STEP)

# %% [markdown]
# ## Undo
#
# **This changes the target.** Services stop and start again on the way.
#
# *Do*: give the answer asked for. *Expect*: each step undone, and for a whole run the outcome `undone`. *If not*: run the
# cell again; what is undone is not undone twice.

# %%
await undo_run(run, APPROVE, STEP)

# %% [markdown]
# ## Status of the run
#
# *Do*: run the cell. *Expect*: the steps as they are now, and any pending cleanup.

# %%
status(run)
