"""Choices and confirmations: a widget that is awaited where a person sits, a validated parameter where none does."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display as show

from runbook_lib.display import line
from runbook_lib.errors import Declined, ParametersError


def attended() -> bool:
    """Whether a person can answer: RUNBOOK_HEADLESS says no, else a kernel tells by whether it may ask for input."""
    if os.environ.get("RUNBOOK_HEADLESS"):
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


async def choice(name: str, options: Mapping[str, str], value: str) -> tuple[str, str]:
    """One of `options` (value -> description): the parameter's where nobody sits, else what the person confirms.

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
                f"{name} is empty, and nobody is there to choose.",
                state="Nothing was changed.",
                safe_next=f"Give it one of: {', '.join(options)}.",
            )
        show(line(f"{name} = {value} (parameter)"))
        return value, "parameter"

    import ipywidgets as widgets

    select = widgets.Dropdown(
        options=[("choose …", ""), *((f"{key}: {text}", key) for key, text in options.items())],
        value=value,
        description=name,
    )
    chosen = await _asked([select], "Choose", lambda: str(select.value), lambda found: f"{name} = {found} (operator)")
    return chosen, "operator"


async def confirmation(question: str, answer: str, value: str) -> str:
    """Have `answer` given: by the parameter where nobody sits, typed by a person else. Returns who gave it.

    Raises:
        Declined: The parameter is not the answer.
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

    typed = widgets.Text(description="Type", placeholder=answer)
    label = widgets.Label(f"{question} Type {answer} to go on.")
    await _asked(
        [label, typed],
        "Confirm",
        lambda: answer if typed.value.strip() == answer else "",
        lambda found: f"{question} {found} (operator)",
    )
    return "operator"


async def _asked(controls: list[Any], button: str, read: Callable[[], str], said: Callable[[str], str]) -> str:
    """Show controls and a button until `read` gives something on a click; then only one static line is left."""
    import ipywidgets as widgets

    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str] = loop.create_future()

    def settle(found: str) -> None:
        if not answered.done():
            answered.set_result(found)

    def clicked(_: Any) -> None:
        if found := read():
            loop.call_soon_threadsafe(settle, found)

    press = widgets.Button(description=button)
    press.on_click(clicked)
    handle = show(widgets.VBox([*controls, press]), display_id=True)
    found = await answered
    if handle is None:
        show(line(said(found)))
    else:
        handle.update(line(said(found)))
    return found
