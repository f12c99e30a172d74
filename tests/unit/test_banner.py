"""The banner: which run this is, where it acts, and how the services are brought back."""

from runbook_lib.run import Run
from runbook_lib.ui import banner as live
from runbook_lib.ui import display


def test_production_is_named_and_fills_the_banner_with_its_colour(run: Run) -> None:
    state = run.state
    state.opened["environment"] = "production"

    shown = display.banner(run.folder, run.context.plan, state)

    assert shown.text.startswith("PRODUCTION: EVERY CHANGE HERE REACHES CUSTOMERS")
    assert f"background:{display.ENVIRONMENTS['production']};color:#ffffff" in shown.html


def test_the_banner_says_in_every_state_how_the_services_are_brought_back(run: Run) -> None:
    banner = live.Banner(run)
    assert "This run has changed nothing yet." in banner.now().text

    run.journal.append("started", step="stop-services", title="Stop")
    run.journal.append("applied", step="stop-services", seconds=1.0, outcome={})

    assert "RECOVERY PATH, 1 steps, 20 s: undo “Stop the services”" in banner.now().text
    assert "08-service-back" in banner.now().text


def test_the_banner_names_the_run_and_no_path_of_the_machine(run: Run) -> None:
    text = live.Banner(run).now().text

    assert f"Run {run.folder.id}" in text
    assert str(run.folder.path.parent) not in text
