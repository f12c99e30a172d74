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
# # Verification
#
# Runs the whole checklist of a run again, at any later time. Nothing here changes the target.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to verify
OPERATOR: str = ""  # who is at the keyboard

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: the banner of the run.
# - **If it fails**: RUN is no run folder, and nothing was touched. `runbook list` in a terminal names the runs.

# %%
from runbook_lib.notebook import compare, resume, status, verify

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Status of the run
#
# - **Expect**, at once: every step done.
# - **If not**: the rollback is not finished. Continue in the run's notebook, or with `runbook run RUN` in a terminal.

# %%
status(run)

# %% [markdown]
# ## Before and after
#
# - **Expect**, in about 1 s: the row counts that the rollback left.
# - **If they differ**: something changed the data since. Nothing is changed here; the checks below name what fails.

# %%
await compare(run)

# %% [markdown]
# ## Verify
#
# - **Expect**, in seconds, on large tables in minutes: PASS in every row.
# - **If not**: the row says what was seen, and nothing was changed. For known causes open 07-troubleshooting;
#   `runbook undo RUN` previews an undo of the run.

# %%
await verify(run)
