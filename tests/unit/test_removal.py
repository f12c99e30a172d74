"""The pure parts of removing columns: names, definitions by their text, and what a catalog must look like afterwards."""

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.postgres.catalog import Catalog
from runbook_lib.postgres.column_removal import Record, Stage, records
from runbook_lib.postgres.column_removal.definitions import Definitions, is_constant, quarantine_name
from runbook_lib.postgres.indexes import concurrently

RUN = "0123456789ab"
BEFORE = {
    "column public.messages id": "bigint NOT NULL",
    "column public.messages attachments": "jsonb DEFAULT '[]'::jsonb",
    "column public.messages replied_to_message_id": "bigint",
    "index public.messages idx_messages_replied_to": "CREATE INDEX …",
    "index public.messages idx_messages_attachments": "CREATE INDEX …",
    "constraint public.messages fk_messages_replied_to_message": "FOREIGN KEY …",
}
ASIDES = {"attachments": "a1", "replied_to_message_id": "a2"}
GONE = {"column public.messages id": "bigint NOT NULL"}
SET_ASIDE = {name: text for name, text in BEFORE.items() if "column" not in name} | {
    "column public.messages id": "bigint NOT NULL",
    "column public.messages a1": "jsonb DEFAULT '[]'::jsonb",
    "column public.messages a2": "bigint",
}


def record(asides: dict[str, str], stage: Stage = Stage.REMOVED) -> Record:
    return Record("quarantine" if asides else "drop", stage, Definitions([], [], []), asides, [], BEFORE, 0)


@pytest.mark.parametrize(
    "columns",
    [["short"], ["x" * 63], ["x" * 62 + "a", "x" * 62 + "b"], ["ü" * 31], ["ü" * 31, "ü" * 30 + "o"]],
    ids=["short", "as long as can be", "alike where they are cut", "in two bytes each", "in two bytes, alike"],
)
def test_quarantine_names_fit_differ_and_name_the_run(columns: list[str]) -> None:
    names = quarantine_name(columns, RUN)

    assert list(names) == columns
    assert len(set(names.values())) == len(columns)
    assert all(len(name.encode()) <= 63 and name.endswith(f"__removed_{RUN}") for name in names.values())


def test_a_short_name_is_kept_whole() -> None:
    assert quarantine_name(["attachments"], RUN) == {"attachments": f"attachments__removed_{RUN}"}


@pytest.mark.parametrize(
    ("default", "constant"),
    [
        (None, True),
        ("'[]'::jsonb", True),
        ("'it''s'::text", True),
        ("'{}'::text[]", True),
        ("0", True),
        ("'-1'::integer", True),
        ("true", True),
        ("NULL::character varying(20)", True),
        ("'open'::public.\"State of it\"", True),
        ("now()", False),
        ("('now'::text)::timestamp with time zone", False),
        ("'now'::text::timestamp", False),
        ("nextval('numbers'::regclass)", False),
        ("gen_random_uuid()", False),
        ("'a'::text || random()", False),
    ],
)
def test_which_defaults_are_constant(default: str | None, constant: bool) -> None:
    assert is_constant(default) is constant


@pytest.mark.parametrize(
    ("definition", "statement"),
    [
        ("CREATE INDEX a ON t USING btree (b)", "CREATE INDEX CONCURRENTLY a ON t USING btree (b)"),
        ("CREATE UNIQUE INDEX a ON t (b)", "CREATE UNIQUE INDEX CONCURRENTLY a ON t (b)"),
        ('CREATE INDEX "CREATE INDEX x" ON t (b)', 'CREATE INDEX CONCURRENTLY "CREATE INDEX x" ON t (b)'),
    ],
)
def test_an_index_is_built_concurrently(definition: str, statement: str) -> None:
    assert concurrently(definition) == statement


@pytest.mark.parametrize(
    ("now", "of", "told"),
    [
        (GONE, None, []),
        (GONE, record({}), []),
        (SET_ASIDE, record(ASIDES), []),
        (
            BEFORE,
            None,
            ["the column attachments is still there", "the constraint fk_messages_replied_to_message is still there"],
        ),
        (GONE, record(ASIDES), ["the column attachments, quarantined as a1, does not exist"]),
        (GONE, record(ASIDES, Stage.PURGED), []),
        (SET_ASIDE, record(ASIDES, Stage.PURGED), ["the index idx_messages_replied_to is still there"]),
        (SET_ASIDE, record({}), ["the constraint fk_messages_replied_to_message is still there"]),
    ],
    ids=["gone", "dropped", "set aside", "all there", "not even aside", "purged", "not wholly purged", "not wholly dropped"],
)
def test_what_is_left_over(plan: Plan, now: Catalog, of: Record | None, told: list[str]) -> None:
    lines = records.left_over(now, plan.database, of)

    assert set(told) <= set(lines)
    assert bool(lines) is bool(told)


def test_a_removed_or_quarantined_column_is_no_other_change(plan: Plan) -> None:
    assert records.changed(BEFORE, GONE, plan.database, record({})) == []
    assert records.changed(BEFORE, SET_ASIDE, plan.database, record(ASIDES)) == []


def test_any_other_change_is_reported(plan: Plan) -> None:
    now = {**GONE, "column public.messages note": "text"}

    assert records.changed(BEFORE, now, plan.database, record({})) == ["added: column public.messages note: text"]
