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
# Makes the whole checklist of a run again, at any later time. Nothing here changes the target.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to verify
OPERATOR: str = ""  # who is at the keyboard

# %% [markdown]
# ## Take the run up
#
# *Do*: run the cell. *Expect*: the run's banner. *If not*: RUN names no run folder.

# %%
from runbook_lib.notebook import compare, resume, status, verify

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Where it stands
#
# *Do*: run the cell. *Expect*: every step done.

# %%
status(run)

# %% [markdown]
# ## Before and after
#
# *Do*: run the cell. *Expect*: the counts that the rollback left.

# %%
await compare(run)

# %% [markdown]
# ## Verify
#
# *Do*: run the cell. *Expect*: PASS in every row. *If not*: the row says what was seen.

# %%
await verify(run)
