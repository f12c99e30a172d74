"""README and the page of commands list each command of the command line, and only options that it has."""

import re

import click
import pytest

from runbook_lib.cli import commands

from ..support.places import ROOT

README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "commands.md").read_text()
ROW = re.compile(r"^\| (`[a-z].*?) \| ", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def named(group: click.Group, before: str = "") -> dict[str, click.Command]:
    """Every command by the words that call it."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        found |= named(command, words) if isinstance(command, click.Group) else {words: command}
    return found


COMMANDS = named(commands)


def listed(text: str, prefix: str) -> list[tuple[str, set[str]]]:
    """The commands that the tables of a text list, each with its options."""
    rows = [row.replace("\\|", " ") for row in ROW.findall(text)]
    calls = [call for row in rows for call in re.findall(rf"`{prefix}([a-z].*?)`", row)]
    names = sorted(COMMANDS, key=len, reverse=True)
    return [(next(name for name in names if call.startswith(name)), set(OPTION.findall(call))) for call in calls]


def test_the_readme_lists_each_command_once() -> None:
    assert sorted(name for name, _ in listed(README, "runbook ")) == sorted(COMMANDS)


def test_the_page_lists_each_command_with_options_that_it_has() -> None:
    rows = listed(PAGE, "")

    assert {name for name, _ in rows} == COMMANDS.keys()
    for name, options in rows:
        assert options <= {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}, name


@pytest.mark.parametrize("text", [README, PAGE], ids=["README", "page"])
def test_the_exit_codes_have_a_table(text: str) -> None:
    assert re.findall(r"^\| ([0-9]) \|", text, re.MULTILINE) == ["0", "1", "2", "3", "4"]
