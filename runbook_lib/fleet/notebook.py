"""The functions that the cells of the notebook `fleet` call: each does one action and shows its result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from time import monotonic
from typing import Any

from IPython.display import display as show

from runbook_lib import fleet as fleets
from runbook_lib.config.fleet import load_tls
from runbook_lib.config.loading import located
from runbook_lib.errors import Declined, ParametersError, RunbookError, UnknownOutcome
from runbook_lib.fleet import FIRST_ALONE, FleetRun, board, fetched, outcome, shared, undoing
from runbook_lib.fleet import walk as walking
from runbook_lib.fleet.commands import opened_engine
from runbook_lib.fleet.engines import Engine
from runbook_lib.fleet.outcome import Outcome
from runbook_lib.fleet.standing import FAILED, SETTLED
from runbook_lib.fleet.tiles import LOOKS, OTHER, tiles
from runbook_lib.journal import Journal
from runbook_lib.journal.control import Request
from runbook_lib.journal.event import clock
from runbook_lib.ui import display
from runbook_lib.ui.display import COLOURS, Shown
from runbook_lib.ui.step_runner import BackgroundTask
from runbook_lib.ui.widgets import attended, choice, confirmation

__all__ = [
    "approve", "choose", "finish", "open_fleet", "preview", "retry_failed", "status", "undo_done", "walk",
]  # fmt: skip

MOST_ROWS = 30  # targets of the preview that are shown at once; the others are folded
NAMED = 6  # targets of a wave that are named


@dataclass(frozen=True)
class Seat:
    """A fleet's run that this kernel opened, and the engine for it."""

    run: FleetRun
    operator: str
    engine: str
    scheduler: str = ""
    tls: str = ""

    @property
    def by(self) -> str:
        """Who acts."""
        return self.operator or str(self.run.state.opened["operator"])


async def open_fleet(
    fleet: str,
    *,
    operator: str = "",
    reason: str = "",
    incident: str = "",
    engine: str = "dask",
    scheduler: str = "",
    tls: str = "",
) -> Seat:
    """Begin the run of a fleet file, or resume that of a fleet's folder, and show its banner. Reads the directory database.

    Raises:
        ParametersError: A parameter, the fleet file or a target is wrong; nothing was touched.
    """
    if not fleet:
        raise ParametersError(
            "FLEET is empty.",
            state="Nothing was touched.",
            safe_next="Set FLEET to a fleet file, or to the folder of a fleet's run below outputs/.",
        )
    if engine not in ("dask", "threads"):
        raise ParametersError(
            f"ENGINE is {engine!r}.", state="Nothing was touched.", safe_next="Set ENGINE to dask or threads."
        )
    if tls:
        if not scheduler:
            raise ParametersError(
                "TLS is set, and SCHEDULER is empty.", state="Nothing was touched.", safe_next="Set SCHEDULER too."
            )
        load_tls(Path(tls))
    path = located(fetched.require_path(fleet))
    if path.is_dir():
        run = fleets.open_existing(path)
    else:
        run = fleets.open_new(path, operator=operator, reason=reason, incident=incident)
    show(_banner(run))
    return Seat(run, operator, engine, scheduler, tls)


async def choose(fleet: Seat, *, again: bool = False) -> Shown:
    """Show how the targets are rolled back; a person may be more careful than the fleet file. Changes the journal only.

    Headless, everything is as the fleet file says.
    """
    run = fleet.run
    if attended() and not run.state.walked:
        for name, (question, options) in _choices(run).items():
            if len(options) > 1 and (again or name not in run.state.choices):
                value, by = await choice(name, options, next(iter(options)), question=question)
                run.choose(name, value, by)
    return _how(run)


async def preview(fleet: Seat, *, again: bool = False) -> Shown:
    """Preview every target that is unchanged, and show all in one table. Read-only.

    A fleet that was begun keeps its previews, unless a target needs a new one or `again` is given.
    """
    run = fleet.run
    open_ones = [each for each in run.standings().values() if not each.touched and each.word not in SETTLED]
    if again or not run.state.walked or any(each.word != "previewed" for each in open_ones):
        await _walked(fleet, "Preview", lambda engine: walking.preview(run, engine), controlled=False)
    state, standings = run.state, run.standings()
    table = board.preview_table(state, standings)
    table.insert(0, "state", table.pop("state"))
    rows = [[str(cell) for cell in row] for row in table.values.tolist()]
    colours = [LOOKS.get(row[0], OTHER)[1] for row in rows]  # type: ignore[call-overload]  # a word, or no key
    title = f"Preview {state.previewed} of {state.opened['fleet']} (nothing was changed)"
    shown = display.table(title, [*table.columns], rows[:MOST_ROWS], colours[:MOST_ROWS])
    totals = display.side_by_side(*map(display.text, board.totals(state, standings)))
    if len(rows) > MOST_ROWS:
        rest = display.table("", [*table.columns], rows[MOST_ROWS:], colours[MOST_ROWS:])
        folded = f"{len(rows) - MOST_ROWS} more targets, closer to the median"
        shown = display.side_by_side(shown, Shown(f"<details><summary>{folded}</summary>{rest.html}</details>", folded))
    return display.side_by_side(totals, shown)


async def approve(fleet: Seat, value: str) -> Shown:
    """Approve the latest preview, or an earlier one, of the targets that are ready in it. Changes the journal only.

    Headless, `value` is the digest. A person types the digest, or on production the fleet's name.

    Raises:
        Declined: No target is ready, or another answer was given.
    """
    run, state = fleet.run, fleet.run.state
    digest = value if value in state.previews else state.previewed
    digest = digest if state.previews.get(digest) else state.approved or digest  # nothing new is ready
    if attended() and digest and state.approved == digest:
        return display.line(f"APPROVED {digest}, as before")
    ready, name = state.previews.get(digest, {}), str(state.opened["fleet"])
    if ready:
        question = f"Roll back {len(ready)} of {len(state.targets)} targets of {name} by preview {digest}?"
        by = await confirmation(question, name if state.opened["production"] and attended() else digest, value)
        if attended():
            for step, count in _irreversible(run, ready).items():
                await confirmation(f"The step {step} CANNOT BE UNDONE on {count} targets. Execute it?", step, "")
        walking.approve(run, digest, fleet.by or by)
    else:
        walking.approve(run, digest, fleet.by)  # declines, and says why
    return display.line(f"APPROVED {digest}: {len(ready)} targets")


async def walk(fleet: Seat) -> Shown:
    """Roll the approved targets back, wave after wave, or resume where they were left. Changes the targets.

    Raises:
        Declined: No preview is approved.
        PreconditionError: Another process acts on this fleet.
    """
    await _resumed(fleet)
    return await _applied(fleet, "Rollback", ())


async def retry_failed(fleet: Seat) -> Shown:
    """Ask whether the failed targets are tried again; headless, leave them. Changes the targets."""
    failed = [name for name, each in fleet.run.standings().items() if each.word in FAILED]
    if not failed:
        return display.line("No target failed.")
    if not attended():
        return display.line(
            f"{len(failed)} failed: runbook fleet run {fleet.run.folder.label} --retry-failed tries them again."
        )
    options = {
        "leave": f"leave {len(failed)} failed targets as they are",
        "retry": "try the failed targets again, no others",
    }
    chosen, _ = await choice("RETRY", options, "leave", question="what happens to the failed targets?")
    if chosen == "leave":
        return display.line("The failed targets stay as they are.")
    await _resumed(fleet)
    return await _applied(fleet, "Retry", failed)


async def undo_done(fleet: Seat, *, finished_too: bool = False) -> Shown:
    """Ask whether the targets that were changed are undone, the last wave first. Changes the targets.

    A finished fleet is asked about with `finished_too` only. Headless, nothing is undone.

    Raises:
        Declined: Another answer than the digest, or the fleet's name on production, was typed.
    """
    run, state = fleet.run, fleet.run.state
    touched = [name for name, each in run.standings().items() if each.touched]
    command = f"runbook fleet undo {run.folder.label}"
    if not touched:
        return display.line("No target is changed, so there is nothing to undo.")
    if not attended() or (not finished_too and (state.outcome or {}).get("status") == "finished"):
        return display.line(f"{len(touched)} targets stay as they are. To undo them: {command}")
    options = {"keep": f"keep what was done on {len(touched)} targets", "undo": "undo it there, the last wave first"}
    chosen, _ = await choice("UNDO", options, "keep", question="what happens to the targets that were changed?")
    if chosen == "keep":
        return display.line(f"{len(touched)} targets stay as they are. To undo them: {command}")
    offered = await _Work(fleet, "Preview of the undo", lambda: undoing.offer(run)).done()
    show(display.block("\n".join(offered.lines(run.folder.label))))
    name = str(state.opened["fleet"])
    answer = name if state.opened["production"] else offered.digest
    await confirmation(f"Undo {len(offered.digests)} targets of {name} by {offered.digest}?", answer, "")
    undoing.approve(run, offered, offered.digest, fleet.by or "operator")
    ended = await _walked(fleet, "Undo", lambda engine: walking.undo(run, engine, run.state.undone_by))
    return _outcome(ended)


def status(fleet: Seat) -> Shown:
    """Show every target in its wave, by the journals alone. Read-only."""
    return display.side_by_side(_banner(fleet.run), tiles(fleet.run.state, fleet.run.standings()))


def finish(fleet: Seat) -> Shown:
    """Show the outcome and the next commands. Read-only.

    Raises:
        RunbookError: The fleet is neither finished nor undone.
    """
    run, state, standings = fleet.run, fleet.run.state, fleet.run.standings()
    known = state.outcome
    ended = Outcome(known["status"], known["summary"]) if known else outcome.of(state, standings)
    ways = board.ways_on(run.folder.label, state, standings)
    pending = sum(each.pending for each in standings.values())
    rest = [*ways, *([f"PENDING CLEANUP: {pending} items, in the targets' runs"] if pending else [])]
    shown = display.side_by_side(_outcome(ended), *map(display.line, rest))
    if ended.exit_code:
        show(shown)
        kind = {1: Declined, 4: UnknownOutcome}.get(ended.exit_code, RunbookError)
        raise kind(
            f"The fleet is not finished: {ended.status}: {ended.summary}",
            where=str(run.path),
            state="Finished targets stay rolled back; each target's journal lists its steps.",
            safe_next="; ".join(ways) or f"Look at `runbook fleet status {run.folder.label}`.",
        )
    return shown


class _Work(BackgroundTask[Any]):
    """Work on a fleet's targets, with the board of the fleet as its output."""

    def __init__(
        self, fleet: Seat, title: str, work: Callable[[], Any], pages: Sequence[str] = (), *, controlled: bool = False
    ) -> None:
        """`pages`: the address of the engine's own page, while the work has an engine."""
        super().__init__(title, work)
        self.pages = pages
        self.fleet, self.where, self.controlled = fleet, str(fleet.run.path), controlled
        self._seen = FleetRun(fleet.run.path)  # its own: the work reads on another thread
        self._since = monotonic()

    def shown(self) -> Shown:
        since = display.text(f"{self.title}: {clock(monotonic() - self._since)}")
        links = [_link("Dask's dashboard", page) for page in self.pages if page]
        return display.side_by_side(since, *links, tiles(self._seen.state, self._seen.standings()))

    def controls(self) -> Any:
        if not self.controlled:
            return None
        import ipywidgets as widgets

        said: list[tuple[str, Request, str]] = [
            ("Pause", "pause", "Begin no other target, and pause the steps that run"),
            ("Resume", "resume", "Continue after a pause"),
            ("Abort", "abort", "Begin no other target, and end the steps that run before their next batch"),
        ]
        buttons = []
        for label, request, tooltip in said:
            button = widgets.Button(description=f"{label} the fleet", tooltip=tooltip, layout={"width": "max-content"})
            button.on_click(lambda _, request=request: self._seen.request(request, self.fleet.by or "operator"))
            buttons.append(button)
        return widgets.HBox(buttons)


async def _walked(fleet: Seat, title: str, act: Callable[[Engine], Any], *, controlled: bool = True) -> Any:
    """Act on the targets with the engine; attended with the board while it runs, headless with the board at the end.

    What changes no target has no controls, and no board at the end.
    """

    pages = list[str]()

    def work() -> Any:
        with opened_engine(fleet.run, fleet.engine, fleet.scheduler, Path(fleet.tls) if fleet.tls else None) as engine:
            pages.append(engine.dashboard)
            try:
                return act(engine)
            finally:
                pages.clear()

    if attended():
        return await _Work(fleet, title, work, pages, controlled=controlled).done()
    ended = work()
    if controlled:
        show(tiles(fleet.run.state, fleet.run.standings()))
    return ended


async def _applied(fleet: Seat, title: str, only: Collection[str]) -> Shown:
    return _outcome(await _walked(fleet, title, lambda engine: walking.apply(fleet.run, engine, only=only)))


async def _resumed(fleet: Seat) -> None:
    """Ask a person whether an aborted fleet resumes; without a yes it stays aborted."""
    if attended() and fleet.run.state.request == "abort":
        options = {"leave": "leave the fleet aborted", "resume": "resume the fleet"}
        chosen, _ = await choice("RESUME", options, "leave", question="the fleet was aborted")
        if chosen == "resume":
            fleet.run.request("resume", fleet.by or "operator")


def _link(text: str, address: str) -> Shown:
    html = f'<a href="{escape(address, quote=True)}" target="_blank" rel="noopener">{escape(text)}</a>'
    return Shown(f"<div>{html}</div>", f"{text}: {address}")


def _banner(run: FleetRun) -> Shown:
    opened = run.state.opened
    production = bool(opened["production"])
    lines = [
        *(["PRODUCTION: EVERY CHANGE HERE REACHES CUSTOMERS"] if production else []),
        f"Fleet {opened['fleet']} · {opened['count']} targets · rollback {opened['type']}, option {opened['option']}",
        f"{opened['plan']} · incident {opened['incident'] or 'none named'} · by {opened['operator'] or 'nobody named'} · "
        f"{opened['reason'] or 'no reason given'}",
        f"Folder {run.folder.label}",
    ]
    html = "<br>".join(f"<b>{escape(text)}</b>" if n < 1 + production else escape(text) for n, text in enumerate(lines))
    return Shown(display.coloured("production" if production else "rehearsal", html), "\n".join(lines))


def _choices(run: FleetRun) -> dict[str, tuple[str, dict[str, str]]]:
    """What a person may choose: name -> question, and value -> description; the fleet file's value is first."""
    filed, waves = run.filed, [wave for wave in run.state.opened["waves"] if wave != [shared.NAME]]
    sizes = ", ".join(str(len(wave)) for wave in waves)
    split = {FIRST_ALONE: "the first target alone, then the same waves"} if len(waves[0]) > 1 else {}
    return {
        "WAVES": ("how large are the waves?", {"filed": f"{sizes} targets, as the fleet file says", **split}),
        "AT_ONCE": (
            "how many targets of one server at once?",
            {str(filed.at_once): "as the fleet file says", **({"1": "one after another"} if filed.at_once > 1 else {})},
        ),
        "MAX_FAILURES": (
            "how many targets may fail before no other begins?",
            {str(filed.max_failures): "as the fleet file says", **({"0": "none"} if filed.max_failures else {})},
        ),
    }


def _how(run: FleetRun) -> Shown:
    fleet, state = run.fleet, run.state
    soak = f"{fleet.soak.seconds} s, then {', '.join(fleet.soak.checks) or 'no checks'}" if fleet.soak else "none"
    rows = [
        ["canaries", ", ".join(fleet.canaries) or "none"],
        *([f"wave {number}", _names(wave)] for number, wave in enumerate(state.waves, 1)),
        ["targets of one server at once", str(fleet.at_once)],
        ["failed targets allowed", f"{fleet.max_failures}, then no other begins"],
        ["between two waves", soak],
        ["deadline", f"{fleet.deadline} s" if fleet.deadline else "none"],
    ]
    return display.table("How the fleet is rolled back", ["what", "value"], rows)


def _names(wave: Collection[str]) -> str:
    more = f" and {len(wave) - NAMED} more" if len(wave) > NAMED else ""
    return f"{len(wave)}: {', '.join([*wave][:NAMED])}{more}"


def _irreversible(run: FleetRun, ready: Mapping[str, str]) -> dict[str, int]:
    """The steps that the approved previews call irreversible, each with its number of targets. Read-only."""
    found: dict[str, int] = {}
    for step in (step for name, digest in ready.items() for step in _steps_for_good(run, name, digest)):
        found[step] = found.get(step, 0) + 1
    return found


def _steps_for_good(run: FleetRun, name: str, digest: str) -> Iterator[str]:
    events = Journal(run.child(name) / "journal.jsonl").events()
    taken = [event.data["shown"] for event in events if event.kind == "previewed" and event.data["digest"] == digest]
    yield from (preview["step"] for shown in taken[-1:] for preview in shown if preview.get("irreversible", True))


def _outcome(ended: Outcome) -> Shown:
    colour = {0: COLOURS["PASS"], 3: COLOURS["FAIL"]}.get(ended.exit_code, COLOURS["UNKNOWN"])
    text = f"{ended.status.upper()}: {ended.summary}"
    return Shown(f'<p style="font-size:1.2em;font-weight:bold;padding:4px 8px;{colour}">{escape(text)}</p>', text)
