"""Answer what a reader of a run asks first: what happened, is it over, what was lost, what is pending."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runbook_lib.config.loading import ROOT
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.steps import DATABASE, RESTORED
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState, StepState
from runbook_lib.report.facts import Verdict, duration, not_passed, outage, rollback_type, steps, title, type_title, verdict

LOSS_TABLE = "evidence/loss.json"  # the rows in which the live database and the backup differ, by table
LOST = "What was lost?"
LONGEST = 240  # characters of an error on the first screen
NOT_KNOWN = "NOT KNOWN: "  # begins a line of a preview that says what could not be counted


@dataclass(frozen=True)
class Answer:
    """One question of a reader, with sentences, a list, a sentence after the list, and the commands that come next."""

    question: str
    sentences: list[str]
    items: list[str] = field(default_factory=list)
    last: str = ""
    commands: list[str] = field(default_factory=list)


def answers(folder: Path, plan: Plan, state: RunState, events: Sequence[Event], held_by: str | None = None) -> list[Answer]:
    """Answer the four questions from the journal. Read-only.

    Args:
        held_by: The process that acts in the run now, "" for none on this machine, None where nobody looked.
    """
    ended = verdict(plan, state, events)
    over, pending = _is_over(_named(folder), plan, state, ended, held_by), _what_is_pending(_named(folder), plan, state)
    if not folder.exists():  # the events are the target's copy
        over, pending = _elsewhere(over, _named(folder), state), replace(pending, commands=[])
    return [_what_happened(plan, state, events, ended), over, _what_was_lost(plan, state, events), pending]


def _elsewhere(answer: Answer, folder: str, state: RunState) -> Answer:
    """The answer where the run's folder is on another machine: take the run up first."""
    if not answer.commands:
        return answer
    target = str(state.opened.get("target_file", "TARGET"))
    sentences = [*answer.sentences[:1], "The run's folder is on another machine. Take the run up first."]
    return Answer(
        answer.question, sentences, commands=[_command("handover", folder, "--to", "NAME", "--from-target", target)]
    )


def _named(folder: Path) -> str:
    """The run's folder as a command takes it: below the project by its relative name."""
    full = folder.resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else str(folder)


def _command(name: str, folder: str, *more: str) -> str:
    return shlex.join(["runbook", name, folder, *more])


# --- what happened


def _what_happened(plan: Plan, state: RunState, events: Sequence[Event], ended: Verdict) -> Answer:
    where = f"Rollback of {plan.title} on {state.opened['target']} ({state.opened['environment']})"
    trouble = [_trouble(step) for step in state.steps.values() if step.status in ("failed", "started")]
    first, *more = [*trouble, *([] if trouble and ended.status == "failed" else [_summary(plan, state, ended)])]
    return Answer(
        "What happened?", [f"{where}: {_sentence(first)}", *map(_sentence, more), *_times(plan, state, events, ended)]
    )


def _summary(plan: Plan, state: RunState, ended: Verdict) -> str:
    if ended.status != "open":
        return ended.summary or ended.word
    of = steps(plan, state)
    return f"{sum(step.is_done for step in of)} of {len(of)} steps are done" if state.type else "no rollback type is chosen"


def _trouble(step: StepState) -> str:
    if step.status == "started":
        return f"the step “{step.title}” began, and its outcome is unknown"
    return f"the step “{step.title}” failed: {_short(step.error)}"


def _times(plan: Plan, state: RunState, events: Sequence[Event], ended: Verdict) -> list[str]:
    took, down = duration(plan, state, events, ended.ended), outage(plan, events)
    if not took:
        return []
    until = "outcome" if ended.ended else "last event"
    return [f"First step to {until}: {took}{f'; outage: {down}' if down else ''}."]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


# --- is it over


def _is_over(folder: str, plan: Plan, state: RunState, ended: Verdict, held_by: str | None) -> Answer:
    question, check = "Is it over?", _command("check", folder)

    def no(*sentences: str, commands: Sequence[str] = ()) -> Answer:
        return Answer(question, [f"No. {sentences[0]}", *sentences[1:]], commands=[*commands])

    match ended.status:
        case "verified":
            return Answer(question, ["Yes. The whole rollback is verified."])
        case "undone":
            return Answer(question, ["Yes. Every step of this run was undone; the rollback is not in effect."])
        case "waived":
            return no("Waived steps and checks are not verified. Fix their causes, then check again.", commands=[check])
        case "ended":
            return no("The run was ended unfinished and cannot be resumed. Plan a new run.", commands=[_new_run(state)])
        case "declined" if not state.steps:
            return no("The rollback has not begun: nobody approved it.", commands=[_command("run", folder)])
        case "escalated":
            return no(f"The run continues as {type_title(plan, state)}.", commands=[_command("run", folder)])
    if held_by:
        return no(f"A process acts in this run now ({held_by}). Wait for it.")
    why, commands = _what_is_left(folder, plan, state, check)
    idle = ["No process on this machine acts in this run now."] if held_by == "" else []
    hint = "The first command resumes the run. The second shows the quickest way to running services."
    return no(why, *idle, *([hint] if len(commands) > 1 else []), commands=commands)


def _what_is_left(folder: str, plan: Plan, state: RunState, check: str) -> tuple[str, list[str]]:
    """What an unfinished run still needs, and the commands that do it. Pure."""
    if not state.type:
        return "Triage has not chosen a rollback type.", [_command("lab", folder)]
    if state.undo or state.is_undone:
        undo = _command("undo", folder, "--approve", state.undo or state.undo_ended)
        return "The undo is not confirmed. The same command resumes it.", [undo]
    if not rollback_type(plan, state):
        return "People execute this rollback type. Check its result.", [check]
    left = [step.title for step in steps(plan, state) if not step.is_done]
    if left:
        resume = _command("run", folder, *(["--approve", state.approved] if state.approved else []))
        back = [_command("service-back", folder)] if state.steps and not state.served else []
        return f"{_steps(len(left))} not done; the next is “{left[0]}”.", [resume, *back]
    if not state.checks.get("after"):
        return "All steps are done, and the final checks are not made.", [check]
    missing = not_passed(plan, state)
    if not missing:
        return "All checks passed, and no outcome is recorded. Check again to record it.", [check]
    number = "1 final check has" if len(missing) == 1 else f"{len(missing)} final checks have"
    return f"{number} not passed. Fix the cause, then check again.", [check]


def _new_run(state: RunState) -> str:
    files = {"--plan": "plan_file", "--target": "target_file"}
    named = [word for option, key in files.items() for word in (option, str(state.opened.get(key, "FILE")))]
    return shlex.join(["runbook", "plan", *named, "--type", state.type or "TYPE"])


def _steps(number: int) -> str:
    return "1 step is" if number == 1 else f"{number} steps are"


# --- what was lost


def _what_was_lost(plan: Plan, state: RunState, events: Sequence[Event]) -> Answer:
    shown = approved_previews(events)
    counted, unknown = list[tuple[str, str]](), list[str]()
    for step in state.steps.values():
        if step.begun_here or step.status == "undone":
            _count(plan, state, step, shown.get(step.name), counted, unknown)
    if state.by_hand:
        unknown.append("nothing counted the work that people did by hand")
    if state.type and not rollback_type(plan, state):
        unknown.append("people execute this rollback type, and the runbook counts nothing")
    not_known = [f"Not known: {each}" for each in unknown]
    if not counted and not unknown:
        return Answer(LOST, [f"Nothing: {_why_nothing(state)}."])
    if not counted:
        return Answer(LOST, ["Not known."], not_known)
    titles = {title for title, _ in counted}
    one = next(iter(titles)) if len(titles) == 1 else ""
    head = f"Counted for the step “{one}”" if one else "Counted, by step"
    items = [line if one else f"“{title}”: {line}" for title, line in counted]
    commands = [str(step.outcome["put back by"]) for step in state.steps.values() if step.outcome.get("put back by")]
    return Answer(
        LOST, [f"{head}{'; more is not known' if unknown else ''}:"], [*items, *not_known], _lists(state), commands
    )


def _why_nothing(state: RunState) -> str:
    if any(step.begun_here for step in state.steps.values()):
        return "the approved preview counted no loss"
    undone = any(step.status == "undone" for step in state.steps.values())
    return "every step was undone, and no row kept another value" if undone else "this run changed nothing"


def _lists(state: RunState) -> str:
    """Where the lists of losses are, in a sentence."""
    by_table = any(entry["file"] == LOSS_TABLE for entry in state.evidence)
    folders = sorted({str(folder) for step in state.steps.values() if (folder := step.outcome.get("exported"))})
    places = [
        *([f"{LOSS_TABLE} (counts by table)"] if by_table else []),
        "report.html, “What was approved”",
        *(f"{folder}/ (the rows; the command puts them back)" for folder in folders),
    ]
    return f"Lists: {', '.join(places)}."


def approved_previews(events: Sequence[Event]) -> dict[str, Mapping[str, Any]]:
    """The preview under whose approval each step began last: step -> what was shown of it. Pure."""
    by_digest, found, approved = dict[str, dict[str, Mapping[str, Any]]](), dict[str, Mapping[str, Any]](), ""
    for event in events:
        match event.kind:
            case "previewed":
                by_digest[event.data["digest"]] = {each["step"]: each for each in event.data.get("shown", ())}
            case "approved":
                approved = event.data["digest"]
            case "started" if event.data.get("action", "apply") == "apply":
                step = event.data["step"]
                found.pop(step, None)
                if preview := by_digest.get(approved, {}).get(step):
                    found[step] = preview
    return found


def _count(
    plan: Plan,
    state: RunState,
    step: StepState,
    preview: Mapping[str, Any] | None,
    counted: list[tuple[str, str]],
    unknown: list[str],
) -> None:
    """Add what a step lost to what is counted and to what is not known."""
    changes = plan.steps[step.name].touches().changes if step.name in plan.steps else {DATABASE}
    if changes == {RESTORED}:  # a copy: the step that puts it in place counts the loss
        return
    of_data, listed = DATABASE in changes, list(preview["loses"]) if preview else []
    if step.status == "undone":
        kept = step.outcome.get("conflicts")
        if kept:
            counted.append((step.title, f"{kept} rows that someone changed since keep their values after the undo"))
        elif kept is None and of_data:
            unknown.append(f"{step.title} was undone; rows written in between were not counted")
    elif not step.is_done:
        if of_data or listed:
            said = (
                f"; its preview listed: {'; '.join(listed)}" if listed else "; its preview listed no loss" if preview else ""
            )
            unknown.append(f"{step.title} did not finish{said}")
    elif preview is None:
        if of_data:
            unknown.append(f"{step.title}: no approved preview is on record")
    elif step.name in plan.steps and plan.steps[step.name].kind == "remove_columns" and not preview.get("volumes"):
        unknown.append(f"{step.title}: row security hid rows from its preview, which counted none")
    else:
        for line in _measured(state, step, listed):
            if line.startswith(NOT_KNOWN):
                unknown.append(f"{line.removeprefix(NOT_KNOWN)} ({step.title})")
            else:
                counted.append((step.title, line))


def _measured(state: RunState, step: StepState, listed: list[str]) -> list[str]:
    """What the step itself counted once it was done, else what its preview listed."""
    made = state.checks.get(f"step:{step.name}", {}).get(f"{step.name}: loss")
    if made is None:
        return listed
    if made["status"] != "PASS":
        return [*listed, f"{NOT_KNOWN}the loss is not the approved one: {made['summary']}"]
    others = [line for line in listed if not line[:1].isdigit()]
    return [*([] if made["summary"] == "no row" else str(made["summary"]).split("; ")), *others]


# --- what is pending


def _what_is_pending(folder: str, plan: Plan, state: RunState) -> Answer:
    items = [f"{name}: {short_paths(item['text'])} ({title(plan, item['step'])})" for name, item in state.pending.items()]
    people = f" {len(plan.follow_ups)} follow-ups for people: see report.html." if plan.follow_ups else ""
    if not items:
        return Answer("What is pending?", [f"No cleanup is pending.{people}"])
    number = f"{len(items)} {'item' if len(items) == 1 else 'items'}"
    first = f"Pending cleanup: {number}. The command previews each; it deletes nothing without approval.{people}"
    return Answer("What is pending?", [first], items, commands=[_command("purge", folder)])


def short_paths(text: str) -> str:
    """Return a text with each long path cut to its last part; the timeline has the whole. Pure."""
    return re.sub(r"(?<!\S)/(?:[^\s/]+/){3,}([^\s/]+)", r"…/\1", text)
