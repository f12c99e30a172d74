"""A papermill engine that never marks an unfinished notebook as completed."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async, run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger

from runbook_lib.errors import RunbookError, cause
from runbook_lib.headless.kernel import started
from runbook_lib.system.signals import ending_signals_raise, ending_signals_report

CELL_GRACE = 60  # seconds that an interrupted cell has for its `finally`
EXIT_LOOK = 0.02  # seconds between two looks whether the kernel has exited
SAVE_SECONDS = 1


class NotebookUnfinished(RunbookError):
    """A notebook did not complete; its saved copy shows how far it came."""


class _Record(NotebookExecutionManager):  # type: ignore[misc]  # papermill has no types
    """The statuses in the saved notebook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._began = datetime.now(UTC), monotonic()
        super().__init__(*args, **kwargs)

    def now(self) -> datetime:
        """Read a clock that cannot be set while the notebook runs, so that no duration is negative."""
        at, since = self._began
        return at + timedelta(seconds=monotonic() - since)

    heeded: Callable[[], None]  # says that an ending signal was heeded, so that nothing breaks what is done then

    def cell_failed(self, cell: Any, index: int) -> None:
        """Mark a cell as failed, with its times."""
        self.cell_exception(cell, cell_index=index)
        self.cell_complete(cell, cell_index=index)

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Mark a cell as running."""
        cell.metadata.papermill.update(start_time=self.now().isoformat(), status=self.RUNNING, exception=False)

    def save(self, **kwargs: Any) -> None:
        """Save, unless saved a moment ago: saving takes longer than most cells."""
        if (self.now() - self.last_save_time).total_seconds() >= SAVE_SECONDS:
            super().save(**kwargs)

    def notebook_complete(self, **kwargs: Any) -> None:
        """Mark running cells as failed, leave the others pending, and save."""
        for index, cell in enumerate(self.nb.cells):
            if cell.metadata.papermill["status"] == self.RUNNING:
                self.cell_failed(cell, index)
        self.end_time = self.now()
        self.nb.metadata.papermill["end_time"] = self.end_time.isoformat()
        self.nb.metadata.papermill["duration"] = (self.end_time - self.start_time).total_seconds()
        self.cleanup_pbar()
        super().save()


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Runs the cells until one of them does not complete."""

    @contextmanager
    def setup_kernel(self, **kwargs: Any) -> Iterator[None]:
        """A kernel that is asked to exit at the end, without the interrupt that nbclient would send it before."""
        with super().setup_kernel(**kwargs):
            try:
                yield
            finally:
                run_sync(self._async_exit)()

    def papermill_execute_cells(self) -> None:
        """Run cell after cell; an interrupted one is waited for, so that its `finally` runs."""
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type != "code":
                cell.metadata.papermill["status"] = self.nb_man.COMPLETED  # saved with the next code cell
                continue
            self.nb_man.cell_start(cell, index)
            try:
                run_sync(self._async_cell)(cell, index)
            except BaseException as error:
                self.nb_man.heeded()
                self.set_widgets_metadata()
                self.nb_man.cell_failed(cell, index)
                if isinstance(error, KeyboardInterrupt | CellTimeoutError):
                    run_sync(self._async_interrupt_and_wait)()
                if isinstance(error, DeadKernelError):
                    raise DeadKernelError(f"The kernel {self._how_it_ended()} in the cell {cell.source.strip()}.") from None
                raise
            self.nb_man.cell_complete(cell, cell_index=index)

    def _how_it_ended(self) -> str:
        """Describe how the kernel's process ended."""
        code = run_sync(self.km.provisioner.poll)()
        if code is None:
            return "stopped answering"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def _async_cell(self, cell: Any, index: int) -> None:
        """Execute a cell; an ending signal meanwhile ends the wait alone, so that those who read for the cell continue.

        Raises:
            KeyboardInterrupt: That signal came.
        """
        came = asyncio.get_running_loop().create_future()
        executed = asyncio.ensure_future(self.async_execute_cell(cell, index))
        with ending_signals_report(lambda number: came.get_loop().call_soon_threadsafe(_set_first, came, number)):
            await asyncio.wait([executed, came], return_when=asyncio.FIRST_COMPLETED)
        if came.done():
            raise _interrupt(came.result())
        executed.result()

    async def _async_exit(self) -> None:
        await ensure_async(self.km.request_shutdown())
        await ensure_async(self.km.finish_shutdown(pollinterval=EXIT_LOOK))

    async def _async_interrupt_and_wait(self) -> None:
        await ensure_async(self.km.interrupt_kernel())
        readers = asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        deadline = monotonic() + CELL_GRACE
        while not readers.done() and monotonic() < deadline:  # they end when the kernel is done with the cell
            self.kc.kernel_info()  # a kernel that awaits does not notice the signal until a message wakes it
            await asyncio.wait([readers], timeout=0.5)
        readers.cancel()
        with suppress(TimeoutError, DeadKernelError):  # those messages are answered before the kernel is asked to exit
            await asyncio.wait_for(self.async_wait_for_reply(self.kc.kernel_info()), 2)


class RunbookEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """Run a notebook as papermill does, and fail unless every cell completed."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> Any:
        """Run `nb`, saving it after each cell.

        Raises:
            NotebookUnfinished: A cell raised, exited or took too long, or the kernel died.
            KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came.
        """
        record = _Record(nb, output_path, log_output, progress_bar, autosave_cell_every)
        with ending_signals_raise(_interrupt) as record.heeded:
            record.notebook_start()
            try:
                cls.execute_managed_notebook(record, kernel_name, log_output=log_output, **kwargs)
            except BaseException as error:
                record.heeded()
                record.nb.metadata.papermill["exception"] = True
                unfinished = _explained(error, nb, output_path)
                if isinstance(error, Exception):
                    raise unfinished from None
                logger.error(str(unfinished))
                raise
            finally:
                record.notebook_complete()
        return record.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        input_path: str | None = None,
        kernel: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run the cells in a fresh kernel, which may be started already; a tag that allows a cell to raise is not heeded."""
        settings = {**kwargs, "timeout": execution_timeout, "startup_timeout": start_timeout, "force_raise_errors": True}
        with started() if kernel is None else nullcontext(kernel) as manager:
            return _Client(nb_man, km=manager, kernel_name=kernel_name, log=logger, **settings).execute(cleanup_kc=True)


def _set_first(future: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if not future.done():
        future.set_result(number)


def _interrupt(number: signal.Signals) -> KeyboardInterrupt:
    """Give the exception that ends the run as Ctrl-C does."""
    return KeyboardInterrupt(number.name)


def _explained(error: BaseException, nb: Any, output_path: str | None) -> NotebookUnfinished:
    code = [cell.metadata.papermill["status"] for cell in nb.cells if cell.cell_type == "code"]
    completed, pending = code.count("completed"), code.count("pending")
    match error:
        case CellExecutionError():
            what = f"A cell raised {error.ename}: {error.evalue}"
        case KeyboardInterrupt():
            what = f"The run was interrupted by {str(error) or 'SIGINT'}."
        case _:
            what = cause(str(error)) or type(error).__name__
    return NotebookUnfinished(
        what,
        where=output_path or "a notebook that is not saved",
        state=f"Of {len(code)} code cells {completed} completed and {pending} never ran.",
        safe_next="Read the failed cell there and the journal, then run the notebook again: done steps are found done.",
    )
