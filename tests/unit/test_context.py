"""What steps and checks work with."""

from dataclasses import replace

from runbook_lib.context import Context


def test_before_a_type_is_chosen_there_are_no_steps(context: Context) -> None:
    context.state = replace(context.state, type="")

    assert context.specs == {}


def test_a_step_of_another_option_is_not_among_the_steps(context: Context) -> None:
    assert "clear-backfill" in context.specs
    assert not {"remove-columns", "restore-staging", "swap-database"} & set(context.specs)
