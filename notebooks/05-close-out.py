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
# Adds people's notes to the record of a run, and writes log, report and manifest again. Nothing here changes the rolled-back
# system.
#
# - **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question.
# - **If a cell fails**, the cells below do not run. Fix what the error names, then run the same cell again.

# %% jupyter={"source_hidden": true} tags=["parameters"]
RUN: str = ""  # the folder of the run to close
OPERATOR: str = ""  # who is at the keyboard
NOTES: str = ""  # a note for the log

# %% [markdown]
# ## Open the run
#
# - **Expect**, in about 2 s: the banner of the run.
# - **If it fails**: RUN is no run folder, and nothing was touched. `runbook list` in a terminal names the runs.

# %%
from runbook_lib.notebook import close, follow_ups, note, notify, resume, rollback_log, timeline

run = await resume(RUN, operator=OPERATOR)

# %% [markdown]
# ## Notes
#
# Fill in NOTES above first.
#
# - **Expect**, at once: the note as the log will show it.

# %%
await note(run, NOTES)

# %% [markdown]
# ## What follows
#
# - **Expect**, at once: the pending cleanup and the plan's tasks. Assign each line to somebody.
# - **Next** for a line of cleanup: `runbook purge RUN` in a terminal previews it. After that purge, this undo is impossible.

# %%
follow_ups(run)

# %% [markdown]
# ## How long each step took
#
# - **Expect**, at once: the time of each step next to its budget, as a table and a chart.

# %%
timeline(run)

# %% [markdown]
# ## The log and the postmortem
#
# - **Expect**, at once: the plan's log, filled in, and the draft of a postmortem with the timeline.
# - **Next**: continue the draft in `postmortem.md` in the run folder.

# %%
rollback_log(run)

# %% [markdown]
# ### Message to the team: how it ended
#
# - **Expect**, at once: the outcome, the pending cleanup and the next tasks. Send it yourself; the runbook sends nothing.

# %%
await notify(run, "end")

# %% [markdown]
# ## Close
#
# - **Expect**, in about 1 s: VERIFIED.
# - **If not**: the rollback is not verified. The error names what is missing; run 04-verification, then this cell again.
#
# ![Healthy result, an example: PASS in every row, and the outcome VERIFIED](attachment:verified.png)

# %%
await close(run)
