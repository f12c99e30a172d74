"""A panel next to the notebook in JupyterLab, for what must not scroll away. The cells' output stays the record."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from runbook_lib.ui.display import Shown, text
from runbook_lib.ui.widgets import attended, elsewhere

INTERRUPT = text("It cannot be paused. To interrupt it: ■ in the notebook's toolbar.")
STYLE = "runbook-panel"  # the class in JupyterLab's style sheet


class Panel:
    """The banner, the pending question, the running work with its controls, the steps and the recovery path."""

    def __init__(self) -> None:
        import ipywidgets as widgets

        self._head, self._work, self._rest = (widgets.HTML() for _ in range(3))
        self._question, self._controls, self._offer = (widgets.VBox() for _ in range(3))
        self._body = widgets.VBox([self._head, self._question, self._work, self._controls, self._rest, self._offer])
        self._body.add_class(STYLE)
        self._place: Any = None
        self.opener = widgets.Button(description="Open the panel", layout={"width": "max-content"})
        self.opener.on_click(lambda _: self.open())

    def open(self) -> None:
        """Show the panel, replacing one that is open."""
        from sidecar import Sidecar

        self.close()
        self._place = Sidecar(title="Rollback", anchor="right")
        self._place.append_display_data(self._body)

    def close(self) -> None:
        """Close the panel."""
        if self._place is not None:
            self._place.close()
        self._place = None

    def put(self, head: Shown, rest: Shown, offer: Any = None) -> None:
        """Show the banner as head, steps and recovery path as rest, and the offer below."""
        self._head.value, self._rest.value = head.html, rest.html
        if (offered := [offer] if offer else []) != list(self._offer.children):
            self._offer.children = offered

    def ask(self, box: Any) -> None:
        """Show the pending question, as in its cell, or none once it is answered."""
        self._question.children = [] if box is None else [box]

    def work(self, shown: Shown, controls: Any = None) -> None:
        """Show the running work and its controls, as in its cell; work without controls can be interrupted."""
        self._work.value = shown.html + (INTERRUPT.html if shown.text and controls is None else "")
        self._controls.children = [] if controls is None else [controls]


_panel: Panel | None = None


def opened() -> Panel | None:
    """The panel of this kernel, None without one."""
    return _panel


def open_one() -> Panel | None:
    """Open the panel of this kernel; None if it is headless, or the extra `lab` is not installed."""
    global _panel
    if not attended() or find_spec("sidecar") is None:
        return None
    if _panel is None:
        _panel = Panel()
        elsewhere.append(_panel.ask)
    _panel.open()
    return _panel
