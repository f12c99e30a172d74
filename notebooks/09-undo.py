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
# Undoes what a run changed: the whole run, newest step first, or one step. Later changes by others stay and are counted.
# Undo data that `runbook purge` deleted cannot be restored.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to undo
OPERATOR: str = ""  # who is at the keyboard
STEP: str = ""  # one step; empty for the whole run
APPROVE: str = ""  # headless: the digest of the undo that was approved

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: the banner of the run.
# - **If it fails**: RUN is no run folder, and nothing was touched. `runbook list` in a terminal names the runs.

# %%
from runbook_lib.notebook import resume, status, undo_preview, undo_run

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Preview
#
# Read how each step is undone, and what stays unchanged.
#
# - **Expect**, in seconds: one line for each step, and a digest to approve.
# - **If it fails**: nothing was changed. The column "cannot, because" names what blocks a step.

# %%
await undo_preview(run, STEP)

# %% [markdown]
# ## Undo
#
# **This changes the target.** Services may stop and start again.
#
# - **Expect**, after your answer, in the estimated time: each step undone; for a whole run, the outcome `undone`.
# - **If it fails**: undone steps stay undone. Fix what the error names, then run the cell again. If services are down:
#   `runbook service-back RUN`.

# %%
await undo_run(run, APPROVE, STEP)

# %% [markdown]
# ## Status of the run
#
# - **Expect**, at once: the current state of the steps, and any pending cleanup.

# %%
status(run)
