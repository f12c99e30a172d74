"""Choices and confirmations: a widget in an attended kernel, a validated parameter in a headless one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display as show

from runbook_lib.errors import Declined, ParametersError
from runbook_lib.run import Run
from runbook_lib.run.approval import require_reason
from runbook_lib.ui import display
from runbook_lib.ui.display import Shown, line

WAKE = 0.2  # seconds between two looks for an interrupt or a changed suggestion
RECOMMENDED = "► {} (recommended)"  # by shape and word, not by colour alone
LIVE = "runbook-live"  # JupyterLab's settings keep keys from running a cell with this class again

NONE: Mapping[str, str] = {}

elsewhere: list[Callable[[Any], None]] = []  # called with each pending question, and None once it is answered


def attended() -> bool:
    """Whether a person can answer: no with RUNBOOK_HEADLESS, else if the kernel may ask for input."""
    if os.environ.get("RUNBOOK_HEADLESS"):
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


async def choice(
    name: str,
    options: Mapping[str, str],
    value: str,
    suggested: Callable[[], str] | None = None,
    *,
    question: str = "",
    consequences: Mapping[str, str] = NONE,
) -> tuple[str, str]:
    """Choose one of `options` (value -> description): by a button, or headless by the parameter.

    A person sees `value`, or what `suggested` returns, first and as recommended. The consequence of an option is
    below its button.

    Returns the value and who chose it, "parameter" or "operator".

    Raises:
        ParametersError: The value is not among the options.
    """
    if value and value not in options:
        raise ParametersError(
            f"{name} is {value!r}, which cannot be chosen.",
            state="Nothing was changed.",
            safe_next=f"Choose one of: {'; '.join(f'{k} ({v})' for k, v in options.items())}.",
        )
    if not attended():
        if not value:
            raise ParametersError(
                f"{name} is empty, and a headless run cannot ask.",
                state="Nothing was changed.",
                safe_next=f"Give it one of: {', '.join(options)}.",
            )
        show(line(f"{name} = {value} (parameter)"))
        return value, "parameter"

    asked = _Choice(f"{name}: {question}".strip(), options, consequences, suggested() if suggested else value)
    meanwhile = (lambda: asked.recommend(suggested())) if suggested else None
    return await asked.answer.to(asked.box, lambda chosen: f"{name} = {chosen} (operator)", meanwhile), "operator"


class _Choice:
    """A button for each option, with its consequence below; the recommended one comes first."""

    def __init__(self, heading: str, options: Mapping[str, str], consequences: Mapping[str, str], recommended: str) -> None:
        import ipywidgets as widgets

        self.answer = _Answer()
        self.options = options
        self._label = widgets.Label(heading)
        self._shown: dict[str, list[Any]] = {}
        self._recommended = recommended
        for key in options:
            button = widgets.Button(**self._look(key), layout={"width": "max-content", "max_width": "100%"})
            button.on_click(lambda _, key=key: self.answer.give(key))
            means = consequences.get(key)
            self._shown[key] = [button, widgets.HTML(_means(means))] if means else [button]
        self.box = widgets.VBox(self._ordered())

    def recommend(self, recommended: str) -> None:
        """Show this option first, as recommended; the others keep their order."""
        if recommended == self._recommended:
            return
        self._recommended = recommended
        for key, (button, *_) in self._shown.items():
            for name, value in self._look(key).items():
                setattr(button, name, value)
        self.box.children = self._ordered()

    def _look(self, key: str) -> dict[str, str]:
        text = f"{key}: {self.options[key]}"
        if key == self._recommended:
            return {"description": RECOMMENDED.format(text), "tooltip": text, "button_style": "primary"}
        return {"description": text, "tooltip": text, "button_style": ""}

    def _ordered(self) -> list[Any]:
        keys = sorted(self._shown, key=lambda key: key != self._recommended)
        return [self._label, *(each for key in keys for each in self._shown[key])]


def _means(consequence: str) -> str:
    return f'<div style="margin:0 0 6px 12px;line-height:1.35">{escape(consequence)}</div>'


async def confirmation(question: str, answer: str, value: str) -> str:
    """Require `answer`: typed by a person, or headless as the parameter. Returns who gave it.

    Raises:
        Declined: The parameter or the typed text is not the answer.
    """
    if not attended():
        if value != answer:
            raise Declined(
                f"{question} needs the answer {answer!r}, and the parameter holds {value!r}.",
                state="Nothing was changed.",
                safe_next="Read the preview above; then run again with that answer.",
            )
        show(line(f"{question} {answer} (parameter)"))
        return "parameter"

    import ipywidgets as widgets

    given = _Answer()
    typed = widgets.Text(description="Type", placeholder=answer, continuous_update=False)
    press = widgets.Button(description="Confirm")
    press.on_click(lambda _: given.give(typed.value.strip()))
    box = widgets.VBox([widgets.Label(f"{question} Type {answer} to continue."), typed, press])
    found = await given.to(box, lambda text: f"{question} {text or '(nothing typed)'} (operator)")
    if found != answer:
        raise Declined(
            f"{question} needs {answer!r} typed, and {found!r} was.",
            state="Nothing was changed.",
            safe_next="Run the cell again to be asked again.",
        )
    return "operator"


async def reason(name: str, question: str, value: str) -> str:
    """Require a reason of at least three words: typed by a person, or headless as the parameter.

    Raises:
        ParametersError: It says too little.
    """
    given = value.strip()
    if attended():
        import ipywidgets as widgets

        answer = _Answer()
        typed = widgets.Text(description="Because", value=given, continuous_update=False, layout={"width": "640px"})
        press = widgets.Button(description="Record")
        press.on_click(lambda _: answer.give(typed.value.strip()))
        box = widgets.VBox([widgets.Label(question), typed, press])
        given = await answer.to(box, lambda text: f"{question} {text or '(nothing typed)'} (operator)")
    require_reason(given, f"{question} The reason", "Nothing was chosen.", f"Give {name}")
    if not attended():
        show(line(f"{question} {given} (parameter)"))
    return given


class _Answer:
    """An answer that a click gives to a waiting cell; one click, one answer.

    Until the cell ends, a front end sends every click, but only the first new state of a widget: since ipykernel 7.4
    there is no idle state. So each choice is its own button, and a wrong text ends the cell.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[str] = self._loop.create_future()

    def give(self, value: str) -> None:
        """Answer from any thread; the first answer counts."""
        self._loop.call_soon_threadsafe(self._settle, value)

    async def to(self, box: Any, said: Callable[[str], str], meanwhile: Callable[[], None] | None = None) -> str:
        """Show `box` until the answer is given, calling `meanwhile` now and then; then show one static line."""
        box.add_class(LIVE)
        _show_elsewhere(box)  # first, as it moves what is below it, this box too
        handle = show(box, display_id=True)
        try:
            while not self._future.done():
                await asyncio.wait({self._future}, timeout=WAKE)
                if meanwhile:
                    meanwhile()
        finally:
            box.remove_class(LIVE)
            _show_elsewhere(None)
        found = self._future.result()
        if handle is None:
            show(line(said(found)))
        else:
            handle.update(line(said(found)))
        return found

    def _settle(self, value: str) -> None:
        if not self._future.done():
            self._future.set_result(value)


def _show_elsewhere(box: Any) -> None:
    for show_box in elsewhere:
        show_box(box)


NOTHING = Shown("", "")


class Gate:
    """The place below a banner where a pending question can be opened and answered as in its own cell.

    Its widgets are made before there is a question: with the first widget, a page asks an older kernel (ipykernel 7.3)
    for the thread that reads clicks. A click before that would wait for the cell that waits for the click.
    """

    def __init__(self, always: Sequence[Any] = ()) -> None:
        import ipywidgets

        self._always = ipywidgets.HBox(always) if always else NOTHING
        button = ipywidgets.Button(description="Ask me here", layout={"width": "max-content"})
        button.on_click(lambda _: self._handle.update(self._question))
        label = ipywidgets.Label("A question is open in the cell marked [*]. If you cannot see it there:")
        self._offer = ipywidgets.HBox([*always, label, button])
        self._question: Any = None
        self._handle: Any = None

    def show(self) -> None:
        """Show this place; the latest one gets each question."""
        self._handle = show(self._always, display_id=True)
        elsewhere[:] = [*(each for each in elsewhere if not isinstance(getattr(each, "__self__", None), Gate)), self.put]

    def put(self, box: Any) -> None:
        """Offer the pending question, or nothing once it is answered."""
        self._question = box
        if self._handle is not None:
            self._handle.update(self._always if box is None else self._offer)


@contextmanager
def asked(run: Run, question: str) -> Iterator[None]:
    """Journal that a person is asked while the block runs; headless, nothing is journaled."""
    if not attended():
        yield
        return
    run.journal.append("asked", question=question)
    try:
        yield
    finally:
        run.journal.append("answered", question=question)


def chosen_before(run: Run, name: str, options: Mapping[str, str], again: bool = False) -> str:
    """Show and return what a person chose in this run by that name; "" if nobody did, or to choose again."""
    if again or not attended():
        return ""
    made = [event.data for event in run.journal.events() if event.kind == "chosen" and event.data["name"] == name]
    if not made or made[-1]["by"] != "operator" or made[-1]["value"] not in options:
        return ""
    value = str(made[-1]["value"])
    show(display.line(f"{name} = {value} (operator, as chosen before; to choose again, add again=True to the call)"))
    return value


async def confirmed(run: Run, name: str, *, undo: bool = False) -> None:
    """Require a person to confirm a step on production by the target's name, and an irreversible one again.

    A finished step needs no confirmation; headless, the approval is enough.

    Raises:
        Declined: Something else was typed.
    """
    if not attended() or name not in run.context.plan.steps or (run.state.step(name).is_done and not undo):
        return
    target, title = run.context.target, run.context.plan.steps[name].title
    verb = "Undo" if undo else "Execute"
    if target.is_production:
        question = f"{verb} “{title}” on {target.name}?"
        with asked(run, question):
            await confirmation(question, target.name, "")
    if not undo:
        await confirmed_for_good(run, name, run.state.approved)


async def confirmed_for_good(run: Run, name: str, digest: str) -> None:
    """Require a person to confirm by its name a step that the previews of that digest call irreversible.

    Raises:
        Declined: Something else was typed.
    """
    if attended() and is_irreversible(run, name, digest):
        question = f"“{run.context.plan.steps[name].title}” CANNOT BE UNDONE. Execute it?"
        with asked(run, question):
            await confirmation(question, name, "")


def is_irreversible(run: Run, name: str, digest: str) -> bool:
    """Whether a step is irreversible by the previews of that digest; unknown counts as irreversible. Read-only."""
    previewed = [e.data for e in run.journal.events() if e.kind == "previewed" and e.data["digest"] == digest]
    shown = [preview for data in previewed[-1:] for preview in data["shown"] if preview["step"] == name]
    return any(one.get("irreversible", True) for one in shown)
