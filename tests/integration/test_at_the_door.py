"""What a user meets first: one clear error, with the remedy that helps."""

import shutil

import pytest

from ..support.bare import Bare, words

pytestmark = pytest.mark.newest


def test_a_missing_folder_of_backups_is_one_clear_error(target: Bare) -> None:
    shutil.rmtree(target.root / "backups")

    planned = target.planned()

    assert planned.exit_code == 3
    assert f"there is no folder {target.root / 'backups'}; create it, or correct backups.directory" in words(planned.text)
    assert "Traceback" not in planned.text


def test_a_target_left_by_another_run_names_the_takeover_command(target: Bare) -> None:
    assert target.planned(choose="STRATEGY=batched").exit_code == 0
    target.dying("runbook_lib.postgres.backfill_removal.batches:_patiently")
    target.executed()

    said = target.planned()

    assert said.exit_code == 3
    assert "--take-over 'REASON'" in words(said.text)


def test_a_table_that_the_backup_lacks_names_the_choice_that_loses_it(target: Bare) -> None:
    target.ask("CREATE TABLE later AS SELECT 1 AS a")
    target.steps("restore-staging")

    refused, chosen = target.planned("C"), target.planned("C", "MISSING_TABLES=lose")

    assert "lacks the table public.later, which has 1 rows now (to go back without it, choose MISSING_TABLES=lose)" in words(
        refused.text
    )
    assert (refused.exit_code, chosen.exit_code) == (3, 0), chosen.text
