"""A fleet's run: a parent folder with one ordinary run per target, its journal, and the state that both add up to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from runbook_lib.config.fleet import Fleet, load_fleet
from runbook_lib.config.loading import ROOT, located
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import pair
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError
from runbook_lib.fleet import events as _events  # noqa: F401 - declares what the journal keeps
from runbook_lib.fleet import shared
from runbook_lib.fleet.members import named_by, targets, written
from runbook_lib.fleet.standing import SETTLED, Standing, standing_of
from runbook_lib.fleet.waves import CANARIES, first_alone, waves
from runbook_lib.journal import Journal, elapsed
from runbook_lib.journal.control import Request
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import FLEET as JOURNAL
from runbook_lib.journal.folder import RunFolder, new_id
from runbook_lib.redaction import register_environment
from runbook_lib.run import Run, lease, lifecycle
from runbook_lib.run.approval import named_reason, require_known, require_reason

FIRST_ALONE = "first-alone"  # a choice of waves: the first target in a wave of its own
LIMITS = ("AT_ONCE", "MAX_FAILURES")  # choices that lower a limit of the fleet file


@dataclass(frozen=True)
class FleetState:
    """All that the fleet's own journal says, by the latest word on each thing; pure."""

    opened: Mapping[str, Any]
    began: datetime  # when the targets were begun to be rolled back; before that, when the run was opened
    deadline_from: datetime | None = None  # from when the deadline counts; None where the next walk begins to count
    previews: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # digest of digests -> target -> digest
    choices: Mapping[str, str] = field(default_factory=dict)  # of a person, in place of the fleet file's
    held_back: Mapping[str, str] = field(default_factory=dict)  # of the latest preview: target -> why
    approved: str = ""
    approved_before: Mapping[str, str] = field(default_factory=dict)  # target -> digest, by earlier approvals
    approved_by: str = ""
    undo: str = ""
    undone_by: Mapping[str, str] = field(default_factory=dict)  # target -> the digest of its undo, approved last
    request: Request = "resume"  # what was asked for last: pause, resume or abort
    requested_by: str = ""
    soaked: Mapping[int, Mapping[str, str]] = field(default_factory=dict)  # wave -> target -> what did not pass
    waived: Mapping[str, str] = field(default_factory=dict)  # a rule of the fleet -> the reason
    lost: Mapping[str, int] = field(default_factory=dict)  # target -> how often whoever acted on it was lost
    refused: Mapping[str, str] = field(default_factory=dict)  # worker that joined this walk -> why it is given nothing
    outcome: Mapping[str, Any] | None = None
    action: str = ""  # what the latest process that walked was to do: preview, apply or undo
    walked: bool = False  # whether the targets were begun to be rolled back
    held: Mapping[str, Event] = field(default_factory=dict)  # target -> that the walk waits for another process there
    interrupted: str = ""  # the signal that asked the process that walks to end

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """Each target's run, server and labels, in order."""
        known: Mapping[str, Mapping[str, Any]] = self.opened["targets"]
        return known

    @property
    def waves(self) -> Sequence[Sequence[str]]:
        """The targets in waves."""
        known: Sequence[Sequence[str]] = self.opened["waves"]
        return first_alone(known, shared.NAME) if self.choices.get("WAVES") == FIRST_ALONE else known

    @property
    def previewed(self) -> str:
        """The digest of the latest preview of all, "" before the first."""
        return next(reversed([*self.previews]), "")

    @property
    def ready(self) -> Mapping[str, str]:
        """The targets that approved previews cover, each with its latest digest; none before an approval."""
        return {**self.approved_before, **self.previews.get(self.approved, {})}


def replay(journal: Sequence[Event]) -> FleetState:
    """The state of a fleet's run after these events. Pure."""
    opened = journal[0]
    state, held = FleetState(opened.data, opened.time), dict[str, Mapping[str, str]]()
    for event in journal[1:]:
        data = event.data
        match event.kind:
            case "fleet-chosen":
                state = replace(state, choices={**state.choices, data["name"]: data["value"]})
            case "fleet-previewed":
                later = {each: found for each, found in state.previews.items() if each != data["digest"]}
                previews = later | {data["digest"]: data["digests"]}
                held[data["digest"]] = data["held_back"]
                state = replace(state, previews=previews, held_back=data["held_back"])
            case "fleet-approved":
                before = {name: each for name, each in state.ready.items() if name not in held.get(data["digest"], {})}
                state = replace(state, approved=data["digest"], approved_before=before, approved_by=data["by"])
            case "fleet-waived":
                state = replace(state, waived={**state.waived, data["name"]: data["reason"]})
            case "fleet-undo-approved":
                state = replace(state, undo=data["digest"], undone_by=data["digests"])
            case "fleet-requested":
                state = replace(state, request=data["request"], requested_by=data["by"])
            case "soaked":
                state = replace(state, soaked={**state.soaked, data["number"]: data["failed"]})
            case "fleet-walking":
                if data["action"] == "apply":
                    began = state.began if state.walked else event.time
                    state = replace(state, began=began, walked=True, deadline_from=state.deadline_from or event.time)
                state = replace(state, action=data["action"], outcome=None, interrupted="", refused={}, held={})
            case "fleet-waiting":
                state = replace(state, held={**state.held, data["target"]: event})
            case "fleet-interrupted":
                state = replace(state, interrupted=data["signal"])
            case "fleet-lost":
                state = replace(state, lost={**state.lost, data["target"]: state.lost.get(data["target"], 0) + 1})
            case "fleet-worker-refused":
                state = replace(state, refused={**state.refused, data["worker"]: data["why"]})
            case "fleet-outcome":
                state = replace(state, outcome=data, deadline_from=None)
    return state


def digest_of(digests: Mapping[str, str]) -> str:
    """A short name for exactly these previews of exactly these targets: 16 hex digits of a SHA-256. Pure."""
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()[:16]


class FleetRun:
    """A fleet's run that has been opened. What is true of a target is in the target's own journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = RunFolder(path)
        self.journal = Journal(path / JOURNAL)
        self._known: tuple[tuple[int, int], FleetState] | None = None
        self._journals: dict[str, Path] = {}
        self._standings: dict[str, tuple[tuple[int, int], Standing]] = {}

    @property
    def state(self) -> FleetState:
        """What the fleet's journal says now. Read-only."""
        about = os.stat(self.path / JOURNAL)
        if self._known is None or self._known[0] != (about.st_size, about.st_mtime_ns):
            self._known = (about.st_size, about.st_mtime_ns), replay(self.journal.events())
        return self._known[1]

    @property
    def fleet(self) -> Fleet:
        """The fleet file as it was when the run began, with the limits that a person chose since. Read-only."""
        choices = self.state.choices
        limits = {name.lower(): int(choices[name]) for name in LIMITS if name in choices}
        return self.filed.model_copy(update=limits) if limits else self.filed

    @cached_property
    def filed(self) -> Fleet:
        """The fleet file as it was when the run began. Read-only."""
        return load_fleet(self.path / "fleet.yaml")

    def child(self, target: str) -> Path:
        """The run folder of a target. Read-only."""
        return self.path / str(self.state.targets[target]["run"])

    def standings(self) -> dict[str, Standing]:
        """Return the state of each target's run by its own journal; an unchanged journal is not read again. Read-only."""
        return {name: self.standing(name) for name in self.state.targets}

    def standing(self, name: str) -> Standing:
        """Return the state of one target's run. Read-only."""
        if name not in self._journals:  # a walk of many targets looks at each of them often
            self._journals[name] = self.child(name) / "journal.jsonl"
        journal = self._journals[name]
        about = os.stat(journal)
        known = self._standings.get(name)
        if not known or known[0] != (about.st_size, about.st_mtime_ns):
            known = (about.st_size, about.st_mtime_ns), standing_of(name, Journal(journal).events())
            self._standings[name] = known
        found, other = known[1], self.state.held.get(name)
        if not (found.waits_since or other):
            return found
        by = RunFolder(journal.parent.parent).held_by()
        if other and by and other.data["why"].endswith(by):
            return replace(found, waits_since=other.time, reason=f"waits: {other.data['why']}")
        if found.waits_since and not by:  # who waited was killed
            return replace(found, waits_since=None, reason="")
        return found

    def ready(self) -> dict[str, str]:
        """The digest of each target whose latest preview can be approved, in the order of the fleet. Read-only."""
        return {name: each.digest for name, each in self.standings().items() if each.word == "previewed"}

    def choose(self, name: str, value: str, by: str) -> None:
        """Record a choice in place of the fleet file's. Changes the journal only."""
        if self.state.choices.get(name) != value:
            self.journal.append("fleet-chosen", name=name, value=value, by=by)

    def waive(self, text: str, by: str) -> None:
        """Record a waiver, "NAME: REASON", in the run of each target that is not done.

        The name `canaries` lets other targets begin though no canary is rolled back; the fleet's own journal keeps that.

        Raises:
            ParametersError: A target has no such check or step, or the reason is too short; nothing was waived.
        """
        if self.filed.canaries and text.partition(":")[0].strip() == CANARIES:
            name, reason = named_reason(text, [CANARIES])
            require_reason(reason, f"The reason for waiving {name}", "Nothing was waived.")
            self.journal.append("fleet-waived", name=name, reason=reason, by=by)
            return
        with self._open(by) as runs:
            named = {name: named_reason(text, run.waivable()) for name, run in runs.items()}
            for name, (of, reason) in named.items():
                require_known([of], dict.fromkeys(runs[name].waivable()), f"a check or step of {name} that can be waived")
                require_reason(reason, f"The reason for waiving {of}", "Nothing was waived.")
            for name, run in runs.items():
                run.waive(*named[name])

    def take_over(self, reason: str, by: str) -> None:
        """Take each target that is not done over from the run that was left behind on it. Changes the targets' leases only.

        Raises:
            ParametersError: The reason is too short.
            PreconditionError: A run acts on a target at this moment; those before it were taken over.
            AdapterError: The server of a target cannot be reached.
        """
        with self._open(by) as runs:
            for run in runs.values():
                lease.take_over(run, reason)

    @contextmanager
    def _open(self, by: str) -> Iterator[dict[str, Run]]:
        """Open the runs of the targets that are not done."""
        with ExitStack() as held:
            runs = dict[str, Run]()
            for name, each in self.standings().items():
                if each.word not in SETTLED:
                    runs[name] = lifecycle.open_existing(self.child(name), by)
                    held.callback(runs[name].close_adapters)
            yield runs

    def request(self, request: Request, by: str) -> None:
        """Have the fleet pause, resume or abort; the targets that are acted on pass it on to their steps."""
        self.journal.append("fleet-requested", request=request, by=by)


def open_new(
    file: Path, *, operator: str = "", reason: str = "", incident: str = "", outputs: Path = ROOT / "outputs"
) -> FleetRun:
    """Begin a fleet's run: read the fleet file, the plan and every target, and make a folder with a run for each target.

    Reads a directory database where the file names one.

    Raises:
        ParametersError: Anything about the fleet, the plan, a target or the parameters is wrong; no folder was made.
        AdapterError: The directory database cannot be asked.
    """
    register_environment()
    fleet = load_fleet(file)
    found = targets(fleet, file)
    sources = {each.name: each.source for each in found}
    with named_by(file, "plan"):
        plan = load_plan(Path(fleet.plan))
    with named_by(file, "soak.checks"):
        require_known(fleet.soak.checks if fleet.soak else (), plan.checks, "a check of the plan")
    path = outputs / new_id(incident or "no-incident", f"fleet-{fleet.name}")
    part = path.with_name(f".{path.name}.part")
    folder = RunFolder(part)
    try:
        folder.write_text("fleet.yaml", located(file).read_text(encoding="utf-8"))
        files = {each.name: written(each, folder.write_text) for each in found}
        production = False
        for name, (target, own) in files.items():
            with _named(file, name, sources[name], part):
                loaded = load_target(part / target)
                production |= loaded.is_production
                pair(load_plan(part / own) if own else plan, loaded, part / target)
        own = files[found[0].name][1]
        _require_shared(fleet, plan, file, load_plan(part / own) if own else plan, [*files])
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    run, own_plan = FleetRun(path), Path(fleet.plan)
    about = {"operator": operator, "reason": reason, "incident": incident}

    def child(name: str, plan_file: Path, target_file: Path, type_name: str, option: str) -> Run:
        outputs = path / "runs" / name
        made = lifecycle.open_new(
            plan_file, target_file, type_name, option=option, outputs=outputs, fleet=fleet.name, **about
        )
        made.close_adapters()
        return made

    children: dict[str, dict[str, Any]] = {}
    try:
        for each in found:
            target, own = files[each.name]
            with _named(file, each.name, each.source, path):
                made = child(each.name, path / own if own else own_plan, path / target, fleet.type, fleet.option)
                _choose(made, fleet, operator)
            folder_of = str(made.folder.path.relative_to(path))
            children[each.name] = {"run": folder_of, "server": each.server, "labels": dict(each.labels)}
        in_waves = waves([*children], fleet.canaries, fleet.waves)
        if parts := fleet.shared:
            made = child(shared.NAME, own_plan, Path(parts.target), parts.type, parts.option)
            children[shared.NAME] = {"run": str(made.folder.path.relative_to(path)), "server": "", "labels": {}}
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    if parts:
        in_waves = [[shared.NAME], *in_waves] if parts.when == "before" else [*in_waves, [shared.NAME]]
    run.journal.append(
        "fleet-opened",
        fleet=fleet.name,
        file=str(file),
        plan=plan.feature,
        type=fleet.type,
        option=fleet.option,
        count=len(children),
        production=production,
        **about,
        targets=children,
        waves=in_waves,
        canaries=fleet.canaries,
        clock=elapsed.here(),
    )
    return run


def is_fleet(path: Path) -> bool:
    """Check whether a folder holds a fleet's run. Read-only."""
    return (located(path) / JOURNAL).is_file()


def open_existing(path: Path) -> FleetRun:
    """Take up a fleet's run in its folder, where it was left. Read-only.

    Raises:
        ParametersError: The folder holds no fleet's run.
    """
    register_environment()
    path = located(path)
    if not is_fleet(path):
        here = f"{path} is no fleet's folder: it holds no {JOURNAL}." if path.is_dir() else f"There is no folder {path}."
        raise ParametersError(
            here,
            state="Nothing was touched.",
            safe_next="Name a folder that `runbook fleet plan` made.",
        )
    return FleetRun(path)


def _choose(run: Run, fleet: Fleet, by: str) -> None:
    """Record the fleet's choices in a target's run.

    Raises:
        ParametersError: Its steps have no such choice, or not that value.
    """
    known = {name: values for name, (values, _) in run.details().items()} if fleet.choose else {}
    require_known(fleet.choose, known, "a choice of this type's steps, and the fleet's `choose` names it")
    for name, value in fleet.choose.items():
        require_known([value], known[name], f"a value of {name}, and the fleet's `choose` names it")
        run.choose(name, value, by)


@contextmanager
def _named(file: Path, target: str, source: str, folder: Path) -> Iterator[None]:
    """Have an error of a target's files name the fleet file and the target, for those files do not outlast it."""
    try:
        yield
    except ParametersError as error:
        written_file = rf"{re.escape(str(folder))}/\w+/[^/\s]+\.yaml(, line \d+)?"
        what, where = (re.sub(written_file, f"the target {target}", text) for text in (error.what, error.where))
        raise ParametersError(
            what,
            where=f"{located(file)}, {where or f'the target {target}'}",
            state=error.state,
            safe_next=f"Correct it in {source}, in the fleet file or in its plan. {error.safe_next}",
        ) from None


def _require_shared(fleet: Fleet, plan: Plan, file: Path, each: Plan, names: Sequence[str]) -> None:
    """See that what all targets share can be rolled back when the file says, and that no target takes its name.

    Raises:
        ParametersError: It cannot.
    """
    if shared.NAME in names:
        why = f"a target is called {shared.NAME}, which names what all targets share"
    elif fleet.shared is None:
        return
    else:
        with named_by(file, "shared.target"):
            target = load_target(Path(fleet.shared.target))
        if not (why := shared.problem(plan, fleet, fleet.shared, target, each)):
            return
    raise ParametersError(
        f"In {located(file)}, {why}.",
        state="Nothing was touched.",
        safe_next="Correct the fleet file; the combinations are in the plan's `compatibility`.",
    )
