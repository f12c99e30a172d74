"""How plan, preview, state and checks look: inline-styled HTML that survives an untrusted archive, and plain text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import in_words
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.results import Result, not_passed
from runbook_lib.steps import Preview
from runbook_lib.triage.decision_matrix import Diagnosis, Recommendation, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from runbook_lib.run.engine import Done
    from runbook_lib.run.lifecycle import Outcome
    from runbook_lib.run.recovery_path import RecoveryPath
    from runbook_lib.run.undo import Offer
    from runbook_lib.triage.decision_matrix import Watch

SYMBOLS = {"PASS": "✔", "FAIL": "✘", "UNKNOWN": "?"}
COLOURS = {"PASS": "#1a7f37", "FAIL": "#cf222e", "UNKNOWN": "#9a6700"}
ENVIRONMENTS = {"production": "#cf222e", "staging": "#9a6700", "rehearsal": "#0969da"}
CHANGED = "≠ "  # precedes a value that differs from the one before
DOLLAR = '<code style="font:inherit;background:none;padding:0">$</code>'  # between two bare ones a notebook sees a formula
ALL_RUN = "All services run in an allowed combination."
WATCHED_SHOWN = 10  # rounds of a watch
CELL = "padding:3px 6px;border-bottom:1px solid #d0d7de;text-align:left;vertical-align:top;white-space:normal"


@dataclass(frozen=True)
class Shown:
    """An output, as HTML and as text."""

    html: str
    text: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __str__(self) -> str:
        return self.text


def side_by_side(*parts: Shown) -> Shown:
    """Several outputs, one below the other."""
    return Shown("".join(part.html for part in parts), "\n".join(part.text for part in parts))


def banner(folder: RunFolder, plan: Plan, state: RunState, clock: Sequence[str] = (), way_back: str = "") -> Shown:
    """Who does what, where, why, and how far it has come; production in white on red, and in words."""
    opened = state.opened
    production = opened["environment"] == "production"
    kind = plan.types[state.type].title if state.type else "not chosen yet"
    lines = [
        *(["PRODUCTION: WHAT IS DONE HERE REACHES CUSTOMERS"] if production else []),
        f"{plan.feature} · {plan.title}",
        f"Target {opened['target']} ({opened['environment'].upper()}) · rollback {kind}",
        f"Incident {opened['incident'] or 'none named'} · by {state.operator or 'nobody named'} · "
        f"{opened['reason'] or 'no reason given'}",
        f"Run {folder.id} · {progress(plan, state)}",
        *clock,
        *([way_back] if way_back else []),
        *_pending(state),
        *(f"HANDED OVER by {h['from'] or 'nobody named'} to {h['to']}" for h in state.handovers),
        *(f"TAKEN OVER by {t['by'] or 'nobody named'} from {t['before']}: {t['reason']}" for t in state.takeovers),
        *(f"WAIVED by {w['by'] or 'nobody named'}: {name}: {w['reason']}" for name, w in state.waivers.items()),
        *(f"BY HAND, by {h['by']}: {h['title']}: {h['result']} ({h['note']})" for h in state.by_hand),
    ]
    html = "<br>".join(
        f"<b>{escape(text)}</b>" if place < 2 + production else escape(text) for place, text in enumerate(lines)
    )
    return Shown(_coloured(opened["environment"], html), "\n".join(lines))


def headline(plan: Plan, state: RunState, clock: Sequence[str] = ()) -> Shown:
    """The banner in short: where, what, how long; production in white on red, and in words."""
    opened = state.opened
    production = opened["environment"] == "production"
    kind = plan.types[state.type].title if state.type else "not chosen yet"
    options = plan.types[state.type].options if state.type else {}
    lines = [
        f"{opened['target']} ({opened['environment'].upper()})" + (": REACHES CUSTOMERS" if production else ""),
        f"Rollback: {kind}" + (f", option {state.option}: {options[state.option]}" if state.option in options else ""),
        *clock,
    ]
    html = "<br>".join(f"<b>{escape(text)}</b>" if place < 2 else escape(text) for place, text in enumerate(lines))
    return Shown(_coloured(opened["environment"], html), "\n".join(lines))


def _coloured(environment: str, html: str) -> str:
    colour = ENVIRONMENTS[environment]
    ground = f"background:{colour};color:#ffffff" if environment == "production" else "background:#f6f8fa;color:#1f2328"
    return f'<div style="border-left:8px solid {colour};padding:8px 14px;line-height:1.4;{ground}">{html}</div>'


MARKS = {"started": "►", "done": "✔", "found done": "✔", "failed": "✘", "pending": "·", "undone": "↺"}


def steps(plan: Plan, state: RunState) -> Shown:
    """The steps of the run in short, each with its state in shape and word, and pending cleanup. Pure."""
    lines = []
    names = plan.steps_of(state.type, state.option) if state.type else []
    for name in names:
        known = state.step(name)
        word = "begun" if known.status == "started" else known.status
        took = f", {known.seconds:.1f} s" if known.is_done and known.seconds is not None else ""
        lines.append(f"{MARKS[known.status]} {plan.steps[name].title} ({word}{took})")
    lines += _pending(state)
    html = "".join(f'<div style="padding-left:1.2em;text-indent:-1.2em">{escape(text)}</div>' for text in lines)
    heading = f"Steps: {sum(state.step(name).is_done for name in names)} of {len(names)} done" if names else "No step yet"
    return Shown(f'<div style="line-height:1.5"><b>{escape(heading)}</b>{html}</div>', "\n".join([heading, *lines]))


def progress(plan: Plan, state: RunState) -> str:
    """How many steps of the type are done, and what has no known outcome."""
    if not state.type:
        return "no step yet"
    names = plan.steps_of(state.type, state.option)
    done = sum(state.step(name).is_done for name in names)
    open_ended = [name for name in names if state.step(name).status == "started"]
    return f"{done} of {len(names)} steps done" + (f", outcome unknown: {', '.join(open_ended)}" if open_ended else "")


def status(folder: RunFolder, plan: Plan, state: RunState) -> Shown:
    """The banner, the steps and the outcome, as the journal tells them."""
    names = dict.fromkeys([*(plan.steps_of(state.type, state.option) if state.type else []), *state.steps])
    rows = []
    for name in names:
        step = state.step(name)
        known = "outcome unknown" if step.status == "started" else step.status
        rows.append([known, plan.steps[name].title, "" if step.seconds is None else f"{step.seconds:.1f} s", step.error])
    ended = state.outcome or {"status": "still open", "summary": "no outcome is on record"}
    return side_by_side(
        banner(folder, plan, state),
        table("Steps", ["state", "step", "took", "error"], rows),
        line(f"Outcome: {ended['status']}, {ended['summary']}"),
        *([line(f"What cleaning up would remove: runbook purge {folder.path}")] if state.pending else []),
    )


def results(
    found: Sequence[Result], heading: str, waived: Collection[str] = (), steps: Mapping[str, str] | None = None
) -> Shown:
    """A checklist with the number that passed in its heading; a waived result is marked and never counts as passed.

    With the titles of `steps`, each result names its step.
    """
    bad = not_passed(found)
    verdict = f"{len(found) - len(bad)} of {len(found)} PASS"
    said = [f"WAIVED ({r.status})" if r in bad and r.name in waived else r.status for r in found]
    rows = [[f"{SYMBOLS[r.status]} {word}", r.title, r.summary] for word, r in zip(said, found, strict=True)]
    head = ["result", "check", "what was seen"]
    if steps is not None:
        head.insert(1, "step")
        for row, r in zip(rows, found, strict=True):
            row.insert(1, steps.get(str(r.evidence.get("step")), ""))
    return table(f"{heading}: {verdict}", head, rows, [COLOURS[r.status] for r in found])


def previews(
    digest: str,
    found: Iterable[Preview],
    tried: Sequence[Result] = (),
    foreseen: Sequence[Result] = (),
    waived: Collection[str] = (),
) -> Shown:
    """What each step would change and lose, the checks made beforehand, and the digest to approve."""
    steps = list(found)
    rows = [
        [p.title, "\n".join(p.would), "\n".join(p.loses) or "nothing", p.locks, _undone_by(p), _estimate(p)] for p in steps
    ]
    head = ["step", "would", "loses", "locks", "undone by", "estimate"]
    shown = table(f"Preview {digest} (nothing was changed)", head, rows)
    tables = [table(p.title, p.table[0], p.table[1:]) for p in steps if p.table]
    looks = {"Looked at beforehand": foreseen, "Tried on a clone": tried}
    titles = {p.step: p.title for p in steps}
    return side_by_side(shown, *tables, *(results(of, heading, waived, titles) for heading, of in looks.items() if of))


def _estimate(preview: Preview) -> str:
    return f"{preview.estimate} s" + (f", as on {preview.measured[:10]}" if preview.measured else "")


def undo(offered: Offer) -> Shown:
    """What an undo would do, newest step first, what it leaves unchanged, and what cannot be undone."""
    rows = [
        [p.title, "\n".join(p.would), "\n".join(p.loses) or "nothing", offered.refused.get(p.step, ""), f"{p.estimate} s"]
        for p in offered.previews
    ]
    heading = f"Undo {offered.digest} (nothing was changed)"
    return table(heading, ["step", "would", "leaves unchanged", "cannot, because", "estimate"], rows)


def _undone_by(preview: Preview) -> str:
    return f"IRREVERSIBLE: {preview.undone_by}" if preview.irreversible else preview.undone_by


def recovery_in_short(found: RecoveryPath, plan: Plan) -> str:
    """The recovery path in one line."""
    if found.blocked:
        return f"NO RECOVERY PATH: {found.blocked}"
    if not found.moves:
        return ALL_RUN
    moves = ", ".join(f"{move.action} “{plan.steps[move.step].title}”" for move in found.moves)
    return f"RECOVERY PATH, {len(found.moves)} steps, {found.estimate} s: {moves} (notebook 08-service-back)"


def recovery(found: RecoveryPath, plan: Plan, state: RunState) -> Shown:
    """The recovery path: its moves, with the estimate of each and of all."""
    if found.blocked:
        return line(f"No recovery path is left: {found.blocked}")
    if not found.moves:
        return line(ALL_RUN)
    budget = plan.types[state.type].budget if state.type else None
    of = f" of the {budget} s that the plan allows" if budget else ""
    rows = [[move.action, plan.steps[move.step].title, f"{move.estimate} s"] for move in found.moves]
    return table(f"Service back in {found.estimate} s{of}", ["", "step", "estimate"], rows)


def done(what: Done) -> Shown:
    """The result of a step."""
    facts = in_words(what.outcome)
    line = f"{what.title}: {what.how} ({what.seconds:.1f} s, planned {what.estimate} s)"
    rest = f": {facts}" if facts else ""
    html = f'<p style="overflow-wrap:anywhere"><b>{escape(line)}</b>{escape(rest)}</p>'
    shown = Shown(html, line + rest)
    return side_by_side(shown, results(what.results, "Verified")) if what.results else shown


def recommendation(found: Recommendation, plan: Plan) -> Shown:
    """The decision matrix with its rows scored, each type with the one that is executed in its place."""
    marks = {"yes": "► yes", "no": "no", "unknown": "? unknown"}
    rows = [
        [marks[r.matches], r.row.symptom, r.row.severity, r.row.asks, _type(plan, r.row.type), r.because] for r in found.rows
    ]
    head = ["matches", "symptom", "severity", "action", "rollback type", "seen"]
    advice = f"Recommended: {found.type or 'nothing'}. {found.reason}"
    if found.row and plan.types[found.row.type].carried_out_as:
        advice += f" {_type(plan, found.row.type)}: {plan.types[found.row.type].because}"
    colours = [COLOURS["FAIL"] if r.matches == "yes" else "" for r in found.rows]
    return side_by_side(table("Decision matrix", head, rows, colours), Shown(f"<p><b>{escape(advice)}</b></p>", advice))


def ticks(found: Recommendation) -> Shown:
    """The symptoms, ticked if present; a symptom that a person decided names that person."""
    ticked = {"yes": "☑", "no": "☐", "unknown": "?"}
    said = [f"{ticked[r.matches]} {r.row.symptom}{f' (by {r.by})' if r.by else ''}" for r in found.rows]
    return line("Symptoms, by the probes unless a person is named: " + " · ".join(said))


def _type(plan: Plan, name: str) -> str:
    kind = plan.types[name]
    return f"{name}, executed as {plan.carried_out(name)}" if kind.carried_out_as else name


def diagnoses(plan: Plan, found: Iterable[Diagnosis]) -> Shown:
    """The plan's troubles: whether each is present, what was seen, and what fixes it."""
    marks = {"yes": "► yes", "no": "no", "unknown": "? unknown"}
    rows = [
        [
            marks[d.there],
            d.trouble.title,
            "\n".join(f"{SYMBOLS[r.status]} {r.status} {r.title}: {r.summary}" for r in d.seen),
            d.trouble.cause,
            f"{plan.types[d.trouble.fix].title} ({d.trouble.fix})",
        ]
        for d in found
    ]
    colours = [COLOURS["FAIL"] if row[0] == marks["yes"] else "" for row in rows]
    return table("Troubleshooting", ["present", "trouble", "what was seen", "usual cause", "fix"], rows, colours)


def advice(found: Verdict) -> Shown:
    """The result of an investigation or of monitoring."""
    text = f"Recommended: {found.type or 'nothing'}. {found.reason}"
    return Shown(f"<p><b>{escape(text)}</b></p>", text)


def watch(state: Watch) -> Shown:
    """A watch in progress: the chart and its latest rounds."""
    rows = [
        [f"{SYMBOLS[s.status]} {s.status}", f"{s.at:.0f} s", s.summary] for s in reversed(state.samples[-WATCHED_SHOWN:])
    ]
    heading = f"“{state.row.symptom}”, round {len(state.samples)}; every {state.monitor.every} s for {state.monitor.lasts} s"
    parts = [table(heading, ["result", "after", "what was seen"], rows)]
    if svg := state.plot():
        parts.insert(0, chart(svg, heading))
    if state.verdict is not None:
        parts.append(advice(state.verdict))
    return side_by_side(*parts)


def chart(svg: str, alt: str) -> Shown:
    """A chart as a picture without scripts; `alt` describes it in words."""
    html = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'
    return Shown(html, f"chart: {alt}")


def outcome(ended: Outcome, state: RunState) -> Shown:
    """How the run ended."""
    colour = {"verified": COLOURS["PASS"], "failed": COLOURS["FAIL"]}.get(ended.status, COLOURS["UNKNOWN"])
    line = f"{ended.status.upper()}: {ended.summary}"
    first = [*(f"Waived: {name}: {waiver['reason']}" for name, waiver in state.waivers.items()), *_pending(state)]
    html = "<br>".join(map(escape, [*first, line]))
    return Shown(f'<p style="font-size:1.2em;font-weight:bold;color:{colour}">{html}</p>', "\n".join([*first, line]))


def before_and_after(folder: RunFolder, state: RunState) -> Shown:
    """The screenshots of the same pages before and after, side by side; those without a counterpart alone."""
    files = [e["file"] for e in state.evidence if e["kind"] == "image"]
    pairs = [(f"{f.removesuffix('-after.png')}-before.png", f) for f in files if f.endswith("-after.png")]
    rows = [[f for f in pair if f in files and (folder.path / f).exists()] for pair in pairs]
    html = "".join("<div>" + "".join(_figure(folder, file) for file in row) + "</div>" for row in rows)
    return Shown(html, "\n".join(f"screenshots {' | '.join(row)}" for row in rows))


def pictures(folder: RunFolder, state: RunState, round_name: str) -> Shown:
    """The screenshots of a round, as small pictures."""
    files = [e["file"] for e in state.evidence if e["kind"] == "image" and e["file"].endswith(f"-{round_name}.png")]
    html = "".join(_figure(folder, file) for file in files)
    return Shown(html, "\n".join(f"screenshot {file}" for file in files))


def _figure(folder: RunFolder, file: str) -> str:
    image = b64encode((folder.path / file).read_bytes()).decode()
    return (
        f'<figure style="display:inline-block;margin:6px;vertical-align:top">'
        f'<img style="width:420px;border:1px solid #d0d7de" '
        f'alt="{escape(file)}" src="data:image/png;base64,{image}"><figcaption>{escape(file)}</figcaption></figure>'
    )


def line(text: str) -> Shown:
    """One static line, such as the result of a choice."""
    return Shown(f'<p style="overflow-wrap:anywhere"><code>{escape(text)}</code></p>', text)


def link(text: str, file: str) -> Shown:
    """A line that ends in a link to a file next to the notebook."""
    return Shown(f'<p>{escape(text)}<a href="{escape(quote(file))}">{escape(file)}</a></p>', f"{text}{file}")


def text(text: str) -> Shown:
    """A paragraph."""
    return Shown(f"<p>{escape(text)}</p>", text)


def block(text: str) -> Shown:
    """Text of several lines, to be copied."""
    style = "padding:8px 14px;border:1px solid #d0d7de;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
    return Shown(f'<pre style="{style}">{escape(text)}</pre>', text)


def frame(title: str, data: pd.DataFrame) -> Shown:
    """A pandas table; missing values stay empty, and a value that differs from the one before is marked."""
    names = [str(name) for name in data.columns]
    pairs = {names.index(name): names.index(name.replace("after", "before")) for name in names if _has_before(name, names)}
    rows = []
    for values in data.astype(object).where(data.notna(), "").itertuples(index=False):
        cells = [_fact(value) for value in values]
        rows.append([f"{CHANGED}{c}" if n in pairs and c != cells[pairs[n]] else c for n, c in enumerate(cells)])
    return table(title, names, rows)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str] = ()) -> Shown:
    """A table; `colours` are for the first cell of each row, whose words say the same."""

    def cell(value: str, style: str = "", tag: str = "td") -> str:
        style += ";background:#fff8c5;color:#1f2328" if str(value).startswith(CHANGED) else ""
        return f'<{tag} style="{CELL}{style}">{_breakable(str(value)).replace(chr(10), "<br>")}</{tag}>'

    body = "".join(
        "<tr>"
        + cell(row[0], f";font-weight:bold;white-space:nowrap;color:{colours[n]}" if colours and colours[n] else "")
        + "".join(cell(value) for value in row[1:])
        + "</tr>"
        for n, row in enumerate(rows)
    )
    html = (
        f'<p style="margin:8px 0 2px"><b>{escape(title)}</b></p><table style="border-collapse:collapse;font-size:13px">'
        f"<tr>{''.join(cell(name, ';font-weight:bold', 'th') for name in head)}</tr>{body}</table>"
    )
    text = [title, *("  " + " | ".join(str(value).replace("\n", "; ") for value in row) for row in [head, *rows])]
    return Shown(html, "\n".join(text))


def _breakable(text: str) -> str:
    """A text as HTML in which a long word, such as a path, may wrap, if possible after a separator."""
    html = re.sub(r"\S{20,}", lambda word: re.sub(r"([/_-])(?=[^/_-])", r"\1<wbr>", word[0]), escape(text))
    html = re.sub(r"\S{10,}", lambda word: LONG.format(word[0]), html)
    return html.replace("$", DOLLAR)


LONG = '<span style="overflow-wrap:anywhere">{}</span>'  # other words stay whole


def _has_before(name: str, names: Sequence[str]) -> bool:
    return "after" in name and name.replace("after", "before") in names


def _pending(state: RunState) -> list[str]:
    return [f"PENDING CLEANUP: {name}: {item['text']}" for name, item in state.pending.items()]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
