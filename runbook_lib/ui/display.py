"""Render plan, preview, state and checks as plain text and as inline-styled HTML that survives an untrusted archive."""

from __future__ import annotations

import re
import shlex
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import Event, in_words
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.redaction import redact
from runbook_lib.report import facts
from runbook_lib.report.answers import Answer, answers, short_paths
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
COLOURS = {  # each with its own background, so that a dark theme and an archive that drops variables keep the contrast
    "PASS": "color:#116329;background:#dafbe1",
    "FAIL": "color:#82071e;background:#ffebe9",
    "UNKNOWN": "color:#633c01;background:#fff8c5",
}
CALM = "background:var(--jp-layout-color2,#f6f8fa);color:var(--jp-ui-font-color1,#1f2328)"  # of JupyterLab's theme
ENVIRONMENTS = {"production": "#cf222e", "staging": "#9a6700", "rehearsal": "#0969da"}
CHANGED = "≠ "  # marks a value that differs from the one before
DOLLAR = '<code style="font:inherit;background:none;padding:0">$</code>'  # between two bare ones a notebook sees a formula
ALL_RUN = "All services run in an allowed combination."
WIDTH = 100  # columns of a terminal
WATCHED_SHOWN = 10  # rounds of a watch
CELL = "padding:3px 6px;border-bottom:1px solid #d0d7de;text-align:left;vertical-align:top;white-space:normal"


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and the rows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Shown:
    """One thing to show, as HTML, as text, and in parts for a terminal; without parts the text is all."""

    html: str
    text: str
    parts: tuple[str | Table, ...] = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __str__(self) -> str:
        return self.text


def side_by_side(*parts: Shown) -> Shown:
    """Put several things below one another."""
    every = tuple(each for part in parts for each in part.parts or (part.text,))
    return Shown("".join(part.html for part in parts), "\n".join(part.text for part in parts), every)


def banner(folder: RunFolder, plan: Plan, state: RunState, clock: Sequence[str] = (), way_back: str = "") -> Shown:
    """Show a run's state, what is waived and pending, and who acts where and why; production in white on red."""
    opened = state.opened
    production = opened["environment"] == "production"
    kind = plan.types[state.type].title if state.type else "not chosen yet"
    unknown = any(step.status == "started" for step in state.steps.values())
    lines = [
        *(["PRODUCTION: EVERY CHANGE HERE REACHES CUSTOMERS"] if production else []),
        f"Target {opened['target']} ({opened['environment'].upper()}) · rollback {kind}",
        *([progress(plan, state)] if unknown or not clock else []),  # else the clock says it
        *_exceptions(state),
        *clock,
        *([way_back] if way_back else []),
        *pending(state),
        *(f"HANDED OVER by {h['from'] or 'nobody named'} to {h['to']}" for h in state.handovers),
        *(f"TAKEN OVER by {t['by'] or 'nobody named'} from {t['before']}: {t['reason']}" for t in state.takeovers),
        f"{plan.feature} · {plan.title}",
        f"Incident {opened['incident'] or 'none named'} · by {state.operator or 'nobody named'} · "
        f"{opened['reason'] or 'no reason given'}",
        f"Run {folder.id}",
    ]
    html = "<br>".join(
        f"<b>{escape(text)}</b>" if place < 1 + production else escape(text) for place, text in enumerate(lines)
    )
    return Shown(coloured(opened["environment"], html), "\n".join(lines))


def _exceptions(state: RunState) -> list[str]:
    """The waivers, overrides and work by hand of a run, a line each."""
    return [
        *(f"WAIVED by {w['by'] or 'nobody named'}: {name}: {w['reason']}" for name, w in state.waivers.items()),
        *(
            f"OVERRIDDEN by {o.get('by') or 'nobody named'}: {o['chosen']} instead of {o['recommended'] or 'nothing'}: "
            f"{o['reason']}"
            for o in state.overrides
        ),
        *(f"BY HAND, by {h['by']}: {h['title']}: {h['result']} ({h['note']})" for h in state.by_hand),
    ]


def headline(plan: Plan, state: RunState, clock: Sequence[str] = ()) -> Shown:
    """Show the banner in short: where, what, how long; production in white on red, and in words."""
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
    return Shown(coloured(opened["environment"], html), "\n".join(lines))


def coloured(environment: str, html: str) -> str:
    """Return HTML on the ground of its environment: production in white on red."""
    colour = ENVIRONMENTS[environment]
    ground = f"background:{colour};color:#ffffff" if environment == "production" else CALM
    return f'<div style="border-left:8px solid {colour};padding:8px 14px;line-height:1.4;{ground}">{html}</div>'


MARKS = {"started": "►", "done": "✔", "found done": "✔", "failed": "✘", "pending": "·", "undone": "↺"}


def steps(plan: Plan, state: RunState) -> Shown:
    """List the steps of a run, each with a symbol and a word for its state, and pending cleanup. Pure."""
    lines = []
    names = plan.steps_of(state.type, state.option) if state.type else []
    for name in names:
        known = state.step(name)
        word = "begun" if known.status == "started" else known.status
        took = f", {known.seconds:.1f} s" if known.is_done and known.seconds is not None else ""
        lines.append(f"{MARKS[known.status]} {plan.steps[name].title} ({word}{took})")
    lines += pending(state)
    html = "".join(f'<div style="padding-left:1.2em;text-indent:-1.2em">{escape(text)}</div>' for text in lines)
    heading = f"Steps: {sum(state.step(name).is_done for name in names)} of {len(names)} done" if names else "No step yet"
    return Shown(f'<div style="line-height:1.5"><b>{escape(heading)}</b>{html}</div>', "\n".join([heading, *lines]))


def progress(plan: Plan, state: RunState) -> str:
    """Count the steps that are done, and name those whose outcome is unknown."""
    if not state.type:
        return "no step yet"
    names = plan.steps_of(state.type, state.option)
    done = sum(state.step(name).is_done for name in names)
    open_ended = [name for name in names if state.step(name).status == "started"]
    return f"{done} of {len(names)} steps done" + (f", outcome unknown: {', '.join(open_ended)}" if open_ended else "")


def status(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event], *, verbose: bool = False) -> Shown:
    """Answer the four questions on a run from its journal; with `verbose`, add the banner and the steps."""
    ended = facts.verdict(plan, state, events)
    held_by = folder.held_by() if ended.status == "open" else None
    about = [
        facts.type_title(plan, state),
        f"by {state.operator or 'nobody named'}",
        f"incident {state.opened['incident'] or 'not given'}",
    ]
    head = [f"{ended.symbol} {ended.word}", *_exceptions(state)]
    html = "".join(f"<div><b>{_breakable(text)}</b></div>" for text in head) + f"<div>{escape(' · '.join(about))}</div>"
    shown = [Shown(html, "\n".join(_wrapped(text, "") for text in [*head, " · ".join(about)]))]
    shown += [_answer(each) for each in answers(folder.path, plan, state, events, held_by)]
    if not verbose:
        return side_by_side(*shown)
    rows = []
    for step in facts.steps(plan, state):
        known = "outcome unknown" if step.status == "started" else step.status
        rows.append(
            [known, facts.title(plan, step.name), "" if step.seconds is None else f"{step.seconds:.1f} s", step.error]
        )
    return side_by_side(*shown, banner(folder, plan, state), table("Steps", ["state", "step", "took", "error"], rows))


def _answer(answer: Answer) -> Shown:
    """One answer; its text fits the width of a terminal, and is redacted before a line is broken."""
    last = [answer.last] if answer.last else []
    html = "".join(
        [
            f'<p style="margin:8px 0 2px"><b>{escape(answer.question)}</b></p>',
            *(f"<div>{_breakable(text)}</div>" for text in answer.sentences),
            *([f"<ul>{''.join(f'<li>{_breakable(item)}</li>' for item in answer.items)}</ul>"] if answer.items else []),
            *(f"<div>{_breakable(text)}</div>" for text in last),
            *(f"<div><code>{_breakable(text)}</code></div>" for text in answer.commands),
        ]
    )
    text = [
        answer.question,
        *(_wrapped(text, "  ") for text in answer.sentences),
        *(_wrapped(text, "  - ") for text in answer.items),
        *(_wrapped(text, "  ") for text in last),
        *map(_typed, answer.commands),
    ]
    return Shown(html, "\n".join(text))


def _typed(command: str) -> str:
    """A command as a shell takes it, over several lines where one is too short."""
    lines = [["  $"]]
    for word in map(shlex.quote, shlex.split(command)):
        if len(" ".join([*lines[-1], word])) > WIDTH - 2:
            lines.append(["   "])
        lines[-1].append(word)
    return " \\\n".join(" ".join(words) for words in lines)


def _wrapped(text: str, before: str) -> str:
    after = " " * len(before)
    return fill(
        redact(text), WIDTH, initial_indent=before, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    )


def results(
    found: Sequence[Result], heading: str, waived: Collection[str] = (), steps: Mapping[str, str] | None = None
) -> Shown:
    """Show a checklist. A waived result is marked, and never counts as passed.

    With the titles of `steps`, each result names its step.
    """
    bad = not_passed(found)
    verdict = f"{len(found) - len(bad)} of {len(found)} PASS"
    said = [f"WAIVED ({r.status})" if r in bad and r.name in waived else r.status for r in found]
    rows = [[f"{SYMBOLS[r.status]} {word}", r.title, r.summary] for word, r in zip(said, found, strict=True)]
    head = ["result", "check", "what was found"]
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
    """Show what each step would change and lose, the checks before approval, and the digest to approve."""
    steps = list(found)
    rows = [
        [p.title, "\n".join(p.would), "\n".join(p.loses) or "nothing", p.locks, _undone_by(p), _estimate(p)] for p in steps
    ]
    head = ["step", "would", "loses", "locks", "undone by", "estimate"]
    shown = table(f"Preview {digest} (nothing was changed)", head, rows)
    tables = [table(p.title, p.table[0], p.table[1:]) for p in steps if p.table]
    looks = {"Checked before approval": foreseen, "Tried on a clone": tried}
    titles = {p.step: p.title for p in steps}
    return side_by_side(shown, *tables, *(results(of, heading, waived, titles) for heading, of in looks.items() if of))


def _estimate(preview: Preview) -> str:
    return f"{preview.estimate} s" + (f", as on {preview.measured[:10]}" if preview.measured else "")


def undo(offered: Offer) -> Shown:
    """Show what an undo would do, newest step first, what it leaves unchanged, and what cannot be undone."""
    rows = [
        [p.title, "\n".join(p.would), "\n".join(p.loses) or "nothing", offered.refused.get(p.step, ""), f"{p.estimate} s"]
        for p in offered.previews
    ]
    heading = f"Undo {offered.digest} (nothing was changed)"
    return table(heading, ["step", "would", "leaves unchanged", "cannot, because", "estimate"], rows)


def _undone_by(preview: Preview) -> str:
    return f"IRREVERSIBLE: {preview.undone_by}" if preview.irreversible else preview.undone_by


def recovery_in_short(found: RecoveryPath, plan: Plan) -> str:
    """Show the recovery path in one line."""
    if found.blocked:
        return f"NO RECOVERY PATH: {found.blocked}"
    if not found.moves:
        return ALL_RUN
    moves = ", ".join(f"{move.action} “{plan.steps[move.step].title}”" for move in found.moves)
    return f"RECOVERY PATH, {len(found.moves)} steps, {found.estimate} s: {moves} (notebook 08-service-back)"


def recovery(found: RecoveryPath, plan: Plan, state: RunState) -> Shown:
    """Show the moves of the recovery path, with the estimate of each and of all."""
    if found.blocked:
        return line(f"No recovery path is left: {found.blocked}")
    if not found.moves:
        return line(ALL_RUN)
    budget = plan.types[state.type].budget if state.type else None
    of = f" of the {budget} s that the plan allows" if budget else ""
    rows = [[move.action, plan.steps[move.step].title, f"{move.estimate} s"] for move in found.moves]
    return table(f"Service back in {found.estimate} s{of}", ["", "step", "estimate"], rows)


def done(what: Done) -> Shown:
    """Show the result of a step."""
    facts = in_words(what.outcome)
    line = f"{what.title}: {what.how} ({what.seconds:.1f} s, planned {what.estimate} s)"
    rest = f": {facts}" if facts else ""
    html = f'<p style="overflow-wrap:anywhere"><b>{escape(line)}</b>{escape(rest)}</p>'
    shown = Shown(html, line + rest)
    return side_by_side(shown, results(what.results, "Verified")) if what.results else shown


def recommendation(found: Recommendation, plan: Plan) -> Shown:
    """Show the scored decision matrix; a type that is executed as another names both."""
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
    """Show the symptoms, ticked where present; one that a person decided against the probes names that person."""
    ticked = {"yes": "☑", "no": "☐", "unknown": "?"}
    said = [f"{ticked[r.matches]} {r.row.symptom}{f' (by {r.by})' if r.by else ''}" for r in found.rows]
    return line("Symptoms, by the probes unless a person is named: " + " · ".join(said))


def _type(plan: Plan, name: str) -> str:
    kind = plan.types[name]
    return f"{name}, executed as {plan.carried_out(name)}" if kind.carried_out_as else name


def diagnoses(plan: Plan, found: Iterable[Diagnosis]) -> Shown:
    """Show the plan's known troubles: whether each is present, what the checks found, and the fix."""
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
    return table("Troubleshooting", ["present", "trouble", "what the checks found", "usual cause", "fix"], rows, colours)


def advice(found: Verdict) -> Shown:
    """Show the recommendation after monitoring or investigation."""
    text = f"Recommended: {found.type or 'nothing'}. {found.reason}"
    return Shown(f"<p><b>{escape(text)}</b></p>", text)


def watch(state: Watch) -> Shown:
    """Show a symptom's monitoring so far: the plot and the latest rounds."""
    rows = [
        [f"{SYMBOLS[s.status]} {s.status}", f"{s.at:.0f} s", s.summary] for s in reversed(state.samples[-WATCHED_SHOWN:])
    ]
    heading = f"“{state.row.symptom}”, round {len(state.samples)}; every {state.monitor.every} s for {state.monitor.lasts} s"
    parts = [table(heading, ["result", "after", "what was found"], rows)]
    if svg := state.plot():
        parts.insert(0, chart(svg, heading))
    if state.verdict is not None:
        parts.append(advice(state.verdict))
    return side_by_side(*parts)


def chart(svg: str, alt: str) -> Shown:
    """Show a chart as a picture, in which nothing can run; `alt` describes it in words."""
    html = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'
    return Shown(html, f"chart: {alt}")


def outcome(ended: Outcome, state: RunState) -> Shown:
    """Show the outcome of a run, after its waivers and before its pending cleanup."""
    colour = {"verified": COLOURS["PASS"], "failed": COLOURS["FAIL"]}.get(ended.status, COLOURS["UNKNOWN"])
    first = [
        *(f"Waived: {name}: {waiver['reason']}" for name, waiver in state.waivers.items()),
        f"{ended.status.upper()}: {ended.summary}",
    ]
    html = f'<p style="font-size:1.2em;font-weight:bold;padding:4px 8px;{colour}">{"<br>".join(map(escape, first))}</p>'
    html += "".join(f"<div>{_breakable(text)}</div>" for text in pending(state))
    return Shown(html, "\n".join([*first, *pending(state)]))


def before_and_after(folder: RunFolder, state: RunState) -> Shown:
    """Show screenshots of the same pages before and after, side by side."""
    files = [e["file"] for e in state.evidence if e["kind"] == "image"]
    pairs = [(f"{f.removesuffix('-after.png')}-before.png", f) for f in files if f.endswith("-after.png")]
    rows = [[f for f in pair if f in files and (folder.path / f).exists()] for pair in pairs]
    html = "".join("<div>" + "".join(_figure(folder, file) for file in row) + "</div>" for row in rows)
    return Shown(html, "\n".join(f"screenshots {' | '.join(row)}" for row in rows))


def pictures(folder: RunFolder, state: RunState, round_name: str) -> Shown:
    """Show the screenshots of a round of checks as small pictures."""
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
    """Show one static line, such as a choice made."""
    return Shown(f'<p style="overflow-wrap:anywhere"><code>{escape(text)}</code></p>', text)


def link(text: str, file: str) -> Shown:
    """Show a line that ends in a link to a file next to the notebook."""
    return Shown(f'<p>{escape(text)}<a href="{escape(quote(file))}">{escape(file)}</a></p>', f"{text}{file}")


def text(text: str) -> Shown:
    """Show a paragraph."""
    return Shown(f"<p>{escape(text)}</p>", text)


def block(text: str) -> Shown:
    """Show text of several lines, ready to copy."""
    style = "padding:8px 14px;border:1px solid #d0d7de;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
    return Shown(f'<pre style="{style}">{escape(text)}</pre>', text)


def frame(title: str, data: pd.DataFrame) -> Shown:
    """Show a pandas table; missing values stay empty, and a value that differs from its column before is marked."""
    names = [str(name) for name in data.columns]
    pairs = {names.index(name): names.index(name.replace("after", "before")) for name in names if _has_before(name, names)}
    rows = []
    for values in data.astype(object).where(data.notna(), "").itertuples(index=False):
        cells = [_fact(value) for value in values]
        rows.append([f"{CHANGED}{c}" if n in pairs and c != cells[pairs[n]] else c for n, c in enumerate(cells)])
    return table(title, names, rows)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str] = ()) -> Shown:
    """Show a table; `colours` are CSS for the words in the first cell of each row, which say the same."""

    def cell(value: str, style: str = "", tag: str = "td", colour: str = "") -> str:
        style += ";background:#fff8c5;color:#1f2328" if str(value).startswith(CHANGED) else ""
        html = _breakable(str(value)).replace(chr(10), "<br>")
        html = f'<span style="padding:1px 6px;border-radius:4px;{colour}">{html}</span>' if colour else html
        return f'<{tag} style="{CELL}{style}">{html}</{tag}>'

    body = "".join(
        "<tr>"
        + (
            cell(row[0], ";font-weight:bold;white-space:nowrap", colour=colours[n])
            if colours and colours[n]
            else cell(row[0])
        )
        + "".join(cell(value) for value in row[1:])
        + "</tr>"
        for n, row in enumerate(rows)
    )
    html = (
        f'<p style="margin:8px 0 2px"><b>{escape(title)}</b></p><table style="border-collapse:collapse;font-size:13px">'
        f"<tr>{''.join(cell(name, ';font-weight:bold', 'th') for name in head)}</tr>{body}</table>"
    )
    text = [title, *("  " + " | ".join(str(value).replace("\n", "; ") for value in row) for row in [head, *rows])]
    return Shown(html, "\n".join(text), (Table(title, head, rows),))


def _breakable(text: str) -> str:
    """Return a text as HTML whose long words, such as paths, may break, preferably after a mark."""
    html = re.sub(r"\S{20,}", lambda word: re.sub(r"([/_-])(?=[^/_-])", r"\1<wbr>", word[0]), escape(text))
    html = re.sub(r"\S{10,}", lambda word: LONG.format(word[0]), html)
    return html.replace("$", DOLLAR)


LONG = '<span style="overflow-wrap:anywhere">{}</span>'  # other words stay whole


def _has_before(name: str, names: Sequence[str]) -> bool:
    return "after" in name and name.replace("after", "before") in names


def pending(state: RunState) -> list[str]:
    """Return what a cleanup would remove, a line each. Pure."""
    return [f"PENDING CLEANUP: {name}: {short_paths(item['text'])}" for name, item in state.pending.items()]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
