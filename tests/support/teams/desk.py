"""What a team does with the runbook at its desk: `init`, the answers to what that asks, and data for a rehearsal."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.open_points import open_points
from runbook_lib.init.writing import init

from . import PARCELS, SHOP, Team

RECORDS = "records: {kind: branch, repository: ., remote: origin}\n"
NPM_CI = "[python, -P, -m, runbook_lib.rehearsal.npm_ci]"  # `npm ci`, once for each lock file


@dataclass(frozen=True)
class Answers:
    """What a team writes into the files of `init`."""

    given: Mapping[str, str | None]
    """Key -> the value in place of its null, in whatever file; None takes the line out."""
    production: Mapping[str, str]
    """Text of production's target -> what stands there in its place: production is a stack of the tests."""
    before: str
    """What users wrote before the release."""
    after: str
    """What they wrote after it."""


ROLES = ("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner")
SAME = {
    **{f"contacts.{role}": "Ada, +44 20 7946 0123" for role in ROLES},
    "database.service": "rehearsal\n  tools: ${REHEARSAL_PG_BIN}",
    "backups.directory": "${REHEARSAL_ROOT}/backups",
    "backups.pattern": "before_*.dump",
}
OF = {
    SHOP.name: Answers(
        SAME
        | {
            "services.manager": "supervisor\n  socket: ${REHEARSAL_ROOT}/supervisor.sock\n  unmanaged: [postgres]",
            "services.versions.web": '{url: "${REHEARSAL_WEB_URL}/health", field: version}',
            "repositories.shop.path": "${REHEARSAL_ROOT}/shop",
            "repositories.shop.install": None,
        },
        {"localhost:8000": "127.0.0.1:${REHEARSAL_WEB_PORT}", "role: shop ": "role: ${REHEARSAL_APPLICATION_ROLE} "},
        "INSERT INTO orders (customer, total_cents, voucher)"
        " SELECT 'c' || n, 100 * n, CASE WHEN n % 3 = 0 THEN 'SAVE10' END FROM generate_series(1, 300) n;\n",
        "INSERT INTO orders (customer, total_cents, discount_percent) VALUES ('late', 900, 20);\n",
    ),
    PARCELS.name: Answers(
        SAME
        | {
            "services.home": "${REHEARSAL_PM2_HOME}\n  command: ['${REHEARSAL_PM2}']",
            "services.versions.api": '{url: "${REHEARSAL_API_URL}/health", field: version}',
            "services.versions.worker": r"{log: 'version (\w+) started'}",
            "repositories.parcels.path": "${REHEARSAL_ROOT}/parcels",
            "health.worker": "{query: SELECT FROM parcels WHERE sent_at IS NOT NULL}",
        },
        {"localhost:3000": "127.0.0.1:${REHEARSAL_API_PORT}", "role: parcels ": "role: ${REHEARSAL_APPLICATION_ROLE} "},
        "INSERT INTO parcels (address, size)"
        " SELECT 'a' || n, (array['S', 'M', 'L'])[1 + n % 3] FROM generate_series(1, 300) n;\n",
        "INSERT INTO parcels (address, size, weight_grams) VALUES ('late', 'S', 77);\n",
    ),
}


def begin(team: Team, clone: Path) -> None:
    """Run `init` in a team's repository, and answer what it asks. Changes the repository's `parameters`."""
    init(clone)
    answers, files = OF[team.name], clone / "parameters"
    for name in ("production", "rehearsal", "stack"):
        _answer(files / f"{name}.yaml", answers.given)
    for name in ("production", "rehearsal"):
        _replace(files / f"{name}.yaml", {"[npm, ci]": NPM_CI})
        (files / f"{name}.yaml").open("a").write(RECORDS)
    _replace(files / "production.yaml", answers.production)
    _replace(files / "stack.yaml", {"    - {backup: before}": "    - {sql: before.sql}\n    - {backup: before}"})
    (files / "before.sql").write_text(answers.before)


def rehearse(team: Team, clone: Path) -> None:
    """Say what users do with the second release. Changes the repository's `parameters`."""
    files = clone / "parameters"
    (files / "stack.yaml").open("a").write("use: [{sql: after.sql}]\n")
    (files / "after.sql").write_text(OF[team.name].after)


def _answer(file: Path, given: Mapping[str, str | None]) -> None:
    text = file.read_text()
    lines: list[str | None] = [*text.splitlines()]
    for point in open_points(text):
        line, value = text.splitlines()[point.line - 1], given[point.key]
        lines[point.line - 1] = None if value is None else f"{line.partition('null  #')[0]}{value}"
    file.write_text("\n".join(line for line in lines if line is not None) + "\n")


def _replace(file: Path, replaced: Mapping[str, str]) -> None:
    text = file.read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    file.write_text(text)
