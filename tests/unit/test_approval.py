"""What an approval binds."""

import pytest

from runbook_lib.run.approval import bound, digest, drift
from runbook_lib.steps import Preview


def preview(facts: dict[str, str] | None = None, rows: int = 1000) -> Preview:
    return Preview("clear", "Clear", would=["clear rows"], facts=facts or {"database": "d"}, volumes={"rows": rows})


def test_the_digest_depends_on_facts_and_volumes_alone() -> None:
    worded = Preview("clear", "Other title", would=["other words"], facts={"database": "d"}, volumes={"rows": 1000})

    assert digest(bound([preview()])) == digest(bound([worded]))
    assert digest(bound([preview()])) != digest(bound([preview(rows=1001)]))
    assert digest(bound([preview()])) != digest(bound([preview({"database": "other"})]))


@pytest.mark.parametrize(
    ("now", "drifted"),
    [
        pytest.param(preview(), False, id="the same"),
        pytest.param(preview(rows=1010), False, id="within the tolerance"),
        pytest.param(preview(rows=1011), True, id="more than the tolerance"),
        pytest.param(preview(rows=989), True, id="fewer than the tolerance"),
        pytest.param(preview({"database": "other"}), True, id="another database"),
        pytest.param(preview({"database": "d", "catalog": "new"}), True, id="a fact that was not approved"),
    ],
)
def test_drift(now: Preview, drifted: bool) -> None:
    assert bool(drift(bound([preview()])["clear"], now, tolerance=0.01)) is drifted
