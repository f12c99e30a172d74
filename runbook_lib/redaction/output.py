"""What a process prints: redacted, whoever prints it, tracebacks included."""

import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

from runbook_lib.redaction import redact


class RedactedStream:
    """A text stream that writes what it is given without secrets; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.in_clear = stream

    def write(self, text: str) -> int:
        """Write `text`, redacted."""
        self.in_clear.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, redacted as one text."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.in_clear, name)


def redact_output() -> None:
    """Have whatever this process prints from now on redacted."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))
    sys.excepthook = _told


def in_clear(stream: Any) -> TextIO:
    """A stream as it is, for what the user needs as it is: the link with JupyterLab's token."""
    return stream.in_clear if isinstance(stream, RedactedStream) else stream


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as one text: its parts could cut a secret in two."""
    sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
