"""What a statement of the application names, and what its parameters stand for."""

from pathlib import Path

import pytest
import yaml

from runbook_lib.config.plan import Exercise
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError
from runbook_lib.postgres.exercise.statement import Named, Unfit, Use, read

from ..support.places import PLAN


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("SELECT * FROM m WHERE a = $1 AND $2 < m.b", {1: Use("", "a", "compared"), 2: Use("m", "b", "compared")}),
        ("SELECT * FROM m WHERE a IN ($1, $2::int)", {1: Use("", "a", "compared"), 2: Use("", "a", "compared")}),
        ("SELECT * FROM m WHERE a = ANY ($1)", {1: Use("", "a", "compared", listed=True)}),
        ("SELECT * FROM m WHERE a BETWEEN $1 AND $2", {1: Use("", "a", "compared"), 2: Use("", "a", "compared")}),
        ("SELECT * FROM m WHERE lower(a) = $1 LIMIT $2", {}),
        ("UPDATE app.m AS x SET a = $1 WHERE b = $2", {1: Use("x", "a", "set"), 2: Use("", "b", "compared")}),
        (
            "INSERT INTO m (a, b) VALUES ($1, $2), ($3, now()) ON CONFLICT (a) DO UPDATE SET b = $4",
            {**{n: Use("m", c, "inserted") for n, c in ((1, "a"), (2, "b"), (3, "a"))}, 4: Use("m", "b", "set")},
        ),
        ("DELETE FROM m WHERE a = $1 RETURNING b", {1: Use("", "a", "compared")}),
    ],
)
def test_a_parameter_stands_for_the_column_next_to_it(text: str, uses: dict[int, Use]) -> None:
    assert read(text).uses == uses


def test_the_tables_and_columns_that_it_names_are_known() -> None:
    found = read("WITH w AS (SELECT a FROM app.m) SELECT w.a, k.b, * FROM w JOIN n AS k ON k.c = w.a;")

    assert set(found.tables) == {Named("app", "m", "m"), Named("", "n", "k")}
    assert found.columns == {("", "a"), ("w", "a"), ("k", "b"), ("k", "c")}


def test_a_typed_literal_that_became_a_parameter_can_be_read() -> None:
    text = "SELECT 'ä', now() - interval $1, double precision $2 + $3::int FROM m WHERE d > timestamptz $4"

    assert (
        read(text).text
        == "SELECT 'ä', now() - $1::interval, $2::double precision + $3::int FROM m WHERE d > $4::timestamptz"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("BEGIN", "neither reads nor writes rows"),
        ("COPY m TO PROGRAM 'mail'", "neither reads nor writes rows"),
        ("SELECT * FROM pg_catalog.pg_class JOIN pg_attribute ON true", "reads only the server's own tables"),
        ("SELEC 1", "cannot be read"),
        ("SELECT 1; SELECT 2", "not one statement"),
        ("-- nothing", "not one statement"),
    ],
)
def test_what_is_no_statement_on_rows_is_not_exercised(text: str, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        read(text)


def test_example_values_are_text_that_the_server_reads() -> None:
    given = Exercise.model_validate({"sql": "SELECT $1, $2, $3, $4", "with": {1: True, 2: None, 3: 1.5, 4: "it's"}})

    assert given.values == {1: "true", 2: None, 3: "1.5", 4: "it's"}


@pytest.mark.parametrize("wrong", [{"sql": ""}, {"sql": "SELECT $1", "with": {2: 1}}, {"sql": "SELECT $1", "with": [1]}])
def test_a_wrong_one_is_named_when_the_plan_is_read(tmp_path: Path, wrong: dict[str, object]) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({**yaml.safe_load(PLAN.read_text()), "exercise": [wrong]}))

    with pytest.raises(ParametersError, match=r"exercise\.0"):
        load_plan(plan)
