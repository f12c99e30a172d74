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
# # Service back now
#
# For a rollback that stopped halfway. It finds the shortest path to services that run in an allowed combination of code,
# schema and data. The path may finish the rollback or undo its steps.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again. A finished
#   step is never done twice.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run that stopped halfway
OPERATOR: str = ""  # who is at the keyboard
APPROVE: str = ""  # headless: the digest of the approved recovery path

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: the banner of the run.
# - **If it fails**: RUN is no run folder, and nothing was touched. `runbook list` in a terminal names the runs.

# %%
from runbook_lib.notebook import recover, recovery_path, resume, status

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## The recovery path
#
# Read which steps it applies or undoes.
#
# - **Expect**, in seconds: the steps with their estimates, and a digest. Steps with an unknown outcome are probed first.
# - **If it fails**: nothing was changed. The error says why no path is left, and what to do next.

# %%
await recovery_path(run)

# %% [markdown]
# ## Take it
#
# **This changes the target.** Each step is probed, journaled and verified, as in the rollback itself.
#
# - **Expect**, after your answer, in the estimated time: each step done or undone, and all services running.
# - **If it fails**: finished steps stay. Run `await recovery_path(run)` again: it finds a path from the new state.

# %%
await recover(run, APPROVE)

# %% [markdown]
# ## Status of the run
#
# - **Expect**, at once: the outcome `service-back`. The services run, but the rollback is not finished.
# - **Next**: continue in the run's notebook or with `runbook run RUN`, or undo all of it with `runbook undo RUN`.

# %%
status(run)
