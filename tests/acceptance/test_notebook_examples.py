"""Every public function of the notebooks has an example in its docstring, and they all run on one stack, in this order."""

import ast
import asyncio
import doctest
import inspect
import io
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

from runbook_lib import notebook

from ..support.places import PLAN, TARGET
from ..support.stacks import up

ORDER = [
    "open_run", "symptoms", "recommended", "investigate", "monitor", "choose", "next_notebook", "note", "handover",
    "choose_details", "check_prerequisites", "look_before", "preview", "notify", "approve", "approve_again", "apply",
    "undo", "recovery_path", "recover", "verify", "escalate", "compare", "timeline", "follow_ups", "close",
    "rollback_log", "status", "resume", "undo_preview", "undo_run", "diagnose", "choose_trouble", "take_over", "fix",
    "end_run",
]  # fmt: skip
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

Namespace = dict[str, Any]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Namespace]:
    """What a headless notebook has at hand, on a stack where no media reach any client; its runs are removed at the end."""
    runs = []

    async def open_run(*args: str, **about: str) -> object:
        runs.append(await notebook.open_run(*args, **about))
        return runs[-1]

    functions = {name: getattr(notebook, name) for name in notebook.__all__}
    with up("all-media-missing"), pytest.MonkeyPatch.context() as patched:
        patched.setenv("RUNBOOK_HEADLESS", "1")
        yield {**functions, "open_run": open_run, "PLAN": str(PLAN), "TARGET": str(TARGET)}
        for run in runs:
            run.close_adapters()
            shutil.rmtree(run.folder.path)


def examples_of(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(getattr(notebook, name)) or "")


async def shown(source: str, namespace: Namespace) -> str:
    """What a cell shows: its outputs, and the value of an expression, as text."""
    tree = ast.parse(source)
    mode = "eval" if isinstance(tree.body[0], ast.Expr) else "exec"
    code = compile(source, "<example>", mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with redirect_stdout(io.StringIO()) as out:
        value = eval(code, namespace)
        value = await value if inspect.isawaitable(value) else value
    if mode == "exec" or value is None:
        return out.getvalue()
    return out.getvalue() + (str(value) if hasattr(value, "html") else repr(value)) + "\n"


def test_every_public_function_has_an_example() -> None:
    assert sorted(ORDER) == sorted(notebook.__all__)
    assert [name for name in ORDER if not examples_of(name)] == []


@pytest.mark.slow
def test_the_examples_show_what_the_docstrings_say(kernel: Namespace) -> None:
    checker, wrong = doctest.OutputChecker(), list[str]()

    async def run_all() -> None:
        for name in ORDER:
            for example in examples_of(name):
                got = await shown(example.source, kernel)
                example.want = example.want.replace("…", "...")
                if not checker.check_output(example.want, got, FLAGS):
                    wrong.append(f"{name}: {example.source}{checker.output_difference(example, got, FLAGS)}")

    asyncio.run(run_all())
    assert not wrong, "\n".join(wrong)
