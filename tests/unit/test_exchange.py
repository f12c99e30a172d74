"""A folder put in the place of another by renames, and back, killed before any of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.system import exchange
from runbook_lib.system.exchange import Exchange, identity, move_or_copy

CUTS = st.lists(st.tuples(st.sampled_from(["make", "take_back"]), st.integers(0, 4)), max_size=5)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_before(move: int, *, can_swap: bool) -> Iterator[None]:
    """Every rename counts; the process is killed before that one."""
    left = [move]

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def done(*paths: Path) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return act(*paths)

        return done

    swapped = counted(exchange.swap) if can_swap else lambda *_: False
    with patch.object(exchange, "move", counted(exchange.move)), patch.object(exchange, "swap", swapped), suppress(Killed):
        yield


def content(path: Path) -> str | None:
    return (path / "file").read_text() if path.exists() else None


@given(cuts=CUTS, can_swap=st.booleans(), was_there=st.booleans(), brings=st.booleans())
def test_what_was_killed_anywhere_is_completed(
    cuts: list[tuple[str, int]], can_swap: bool, was_there: bool, brings: bool
) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        for folder, there in (("place", was_there), ("kept/new", brings)):
            if there:
                (root / folder).mkdir(parents=True)
                (root / folder / "file").write_text(folder)
        new = root / "kept" / "new"
        one = Exchange(root / "place", new, root / "kept" / "old", identity(new))
        assert not one.is_begun

        for action, move in cuts:
            with killed_before(move, can_swap=can_swap):
                getattr(one, action)()
        with killed_before(-1, can_swap=can_swap):
            one.make()

        assert (content(one.place), one.is_made) == ("kept/new" if brings else None, True)
        assert content(one.old) == ("place" if was_there else None)

        for action, move in reversed(cuts):
            with killed_before(move, can_swap=can_swap):
                getattr(one, action)()
        with killed_before(-1, can_swap=can_swap):
            one.take_back()

        assert (content(one.place), one.is_begun) == ("place" if was_there else None, False)
        assert content(one.new) == ("kept/new" if brings else None)


def test_both_folders_are_there_at_every_moment_of_a_swap(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    assert exchange.swap(tmp_path / "one", tmp_path / "other")

    assert [content(tmp_path / name) for name in ("one", "other")] == ["other", "one"]


def test_a_swap_that_may_not_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()

    with pytest.raises(FileNotFoundError, match="nowhere"):
        exchange.swap(tmp_path / "one", tmp_path / "nowhere")


def test_what_is_on_another_file_system_is_copied_links_as_links(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as name, TemporaryDirectory(dir="/var/tmp") as here:
        assert Path(name).stat().st_dev != Path(here).stat().st_dev, "this test needs two file systems"
        source = Path(name) / "built"
        source.mkdir()
        (source / "file").write_text("built")
        (source / "link").symlink_to("file")

        move_or_copy(source, Path(here) / "kept" / "built")

        assert content(Path(here) / "kept" / "built") == "built"
        assert (Path(here) / "kept" / "built" / "link").readlink() == Path("file")
