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
# # Close-out
#
# Adds what people know to the record of a run, and writes log, report and manifest again. Nothing here changes the target.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to close
OPERATOR: str = ""  # who is at the keyboard
NOTES: str = ""  # what the log should say besides

# %% [markdown]
# ## Take the run up
#
# *Do*: run the cell. *Expect*: the run's banner. *If not*: RUN names no run folder.

# %%
from runbook_lib.notebook import close, follow_ups, note, notify, resume, rollback_log, timeline

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Notes
#
# *Do*: fill in NOTES above and run the cell. *Expect*: the note as it will stand in the log.

# %%
await note(run, NOTES)

# %% [markdown]
# ## What follows
#
# *Do*: run the cell, and hand each line to somebody.

# %%
follow_ups(run)

# %% [markdown]
# ## How long each step took
#
# *Do*: run the cell. *Expect*: each step against its budget, as a table and a plot.

# %%
timeline(run)

# %% [markdown]
# ## The log and the postmortem
#
# *Do*: run the cell, and go on writing in `postmortem.md` in the run folder. *Expect*: the plan's log template, filled in,
# and a draft with the timeline.

# %%
rollback_log(run)

# %% [markdown]
# ### Tell the team how it ended
#
# *Do*: run the cell and send the text. *Expect*: the outcome, the pending cleanup, and what follows.

# %%
await notify(run, "end")

# %% [markdown]
# ## Close
#
# *Do*: run the cell. *Expect*: the outcome, by the record.

# %%
await close(run)
