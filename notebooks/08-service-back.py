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
# From wherever a rollback stands: the shortest way to services that run in a combination of code, schema and data that the
# plan's compatibility table allows. That may be on to the end of the rollback, or back over what was done.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run that stands in the middle
OPERATOR: str = ""  # who is at the keyboard
APPROVE: str = ""  # headless: the digest of the way that was approved

# %% [markdown]
# ## Take the run up
#
# *Do*: run the cell. *Expect*: the run's banner, and the way as the record tells it. *If not*: RUN names no run folder.

# %%
from runbook_lib.notebook import resume, status, walk_back, way_back

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## The way
#
# *Do*: run the cell and read it. *Expect*: the steps to apply or to undo, how long each should take, and a digest. Steps
# without a known outcome are probed first. *If not*: the message says why neither forward nor back is a way.

# %%
await way_back(run)

# %% [markdown]
# ## Walk it
#
# **This changes the target.** Each step is probed, journaled and verified as in the rollback itself.
#
# *Do*: give the answer asked for. *Expect*: each step done or undone, and every service running. *If not*: nothing is done
# twice when the cell is run again; the path is looked for again, from what exists then.

# %%
await walk_back(run, APPROVE)

# %% [markdown]
# ## Where the run stands
#
# *Do*: run the cell. *Expect*: what is done and what was undone, and the outcome `service-back`: the services
# run, the rollback is not finished. The run's own notebook goes on from here.

# %%
status(run)
