"""A second place for the question that waits: JupyterLab clears a waiting cell's own when Shift+Enter is pressed on it."""

from __future__ import annotations

from typing import Any

from IPython.display import display as show

from runbook_lib import widgets
from runbook_lib.display import Shown

NOTHING = Shown("", "")


class Gate:
    """The place below a banner where a question that waits can be called up, and answered as in its own cell.

    What offers it is made before there is a question: with its first widget a page asks an older kernel (ipykernel 7.3)
    for the thread that clicks are read on, and a click before that one is there waits for the cell that waits for it.
    """

    def __init__(self) -> None:
        import ipywidgets

        button = ipywidgets.Button(description="Ask me here", layout={"width": "max-content"})
        button.on_click(lambda _: self._handle.update(self._question))
        label = ipywidgets.Label("A question waits in the cell marked [*]. Is it gone from there, as after Shift+Enter?")
        self._offer = ipywidgets.HBox([label, button])
        self._question: Any = None
        self._handle: Any = None

    def show(self) -> None:
        """Take the place; the latest one is told of each question."""
        self._handle = show(NOTHING, display_id=True)
        widgets.elsewhere[:] = [self.put]

    def put(self, box: Any) -> None:
        """Offer the question that waits, or nothing once it is answered."""
        self._question = box
        if self._handle is not None:
            self._handle.update(NOTHING if box is None else self._offer)
