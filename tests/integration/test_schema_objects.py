"""What two databases differ in, object by object."""

from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.schema_objects import differences, schema_objects

from ..support.two import Two

MADE = """
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY, state varchar(9) CHECK (state IN ('x', 'y')), n int DEFAULT 1,
    twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (id));
CREATE TABLE split (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE SEQUENCE numbers;
CREATE VIEW seen AS SELECT id, state FROM parts;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM parts;
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE AGGREGATE longest(text) (SFUNC = text_larger, STYPE = text);
CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE UPDATE ON parts FOR EACH ROW EXECUTE FUNCTION g();
CREATE POLICY p ON parts USING (n > 0);
CREATE RULE r AS ON DELETE TO seen DO INSTEAD NOTHING;
CREATE STATISTICS s ON n, state FROM parts;
CREATE INDEX i ON parts (n);
CREATE COLLATION c (locale = 'C');
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
COMMENT ON COLUMN parts.n IS 'how many'
"""
CHANGES = {
    "CREATE SCHEMA another": {"schema another": "was added"},
    "ALTER TYPE mood ADD VALUE 'c'": {"type public.mood": "was ENUM 'a', 'b', is ENUM 'a', 'b', 'c'"},
    "ALTER TYPE pair ADD ATTRIBUTE c int": {"type public.pair": "was COMPOSITE a integer, b text, is COMPOSITE"},
    "ALTER DOMAIN positive DROP CONSTRAINT positive_check": {"constraint public.positive positive_check": "is gone"},
    "ALTER TABLE users ALTER name TYPE varchar(500)": {
        "column public.users name": "was text NOT NULL, is character varying"
    },
    "ALTER TABLE parts ALTER n SET NOT NULL": {
        "column public.parts n": "was integer DEFAULT 1, is integer NOT NULL DEFAULT 1"
    },
    "ALTER TABLE parts ALTER n SET DEFAULT 2": {"column public.parts n": "was integer DEFAULT 1, is integer DEFAULT 2"},
    "ALTER TABLE parts ALTER id DROP IDENTITY": {
        "column public.parts id": "was bigint NOT NULL IDENTITY ALWAYS",
        "sequence public.parts_id_seq": "is gone",
    },
    "ALTER TABLE parts ALTER twice DROP EXPRESSION": {"column public.parts twice": "was integer GENERATED s (n * 2)"},
    "ALTER TABLE parts DROP CONSTRAINT parts_state_check": {"constraint public.parts parts_state_check": "is gone"},
    "ALTER TABLE parts ENABLE ROW LEVEL SECURITY": {"table public.parts": "was , is ROW LEVEL SECURITY"},
    "ALTER TABLE parts SET (fillfactor = 50)": {"table public.parts": "was , is WITH {fillfactor=50}"},
    "ALTER TABLE parts REPLICA IDENTITY FULL": {"table public.parts": "was , is REPLICA IDENTITY f"},
    "DROP TABLE split_1": {"table public.split_1": "is gone"},
    "CREATE TABLE new (id int PRIMARY KEY)": {"table public.new": "was added"},
    "DROP INDEX i": {"index public.parts i": "is gone"},
    "ALTER SEQUENCE numbers INCREMENT 5": {"sequence public.numbers": "was bigint INCREMENT 1"},
    "CREATE OR REPLACE VIEW seen AS SELECT id, state FROM parts WHERE n > 0": {"view public.seen": "WHERE"},
    "DROP MATERIALIZED VIEW kept": {"materialized view public.kept": "is gone"},
    "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1'": {
        "function public.f(a integer)": "was CREATE"
    },
    "DROP AGGREGATE longest(text)": {"aggregate public.longest(text)": "is gone"},
    "ALTER TABLE parts DISABLE TRIGGER t": {"trigger public.parts t": "was CREATE TRIGGER"},
    "ALTER POLICY p ON parts USING (n > 1)": {"policy public.parts p": "was PERMISSIVE FOR * TO public USING (n > 0)"},
    "DROP RULE r ON seen": {"rule public.seen r": "is gone"},
    "DROP STATISTICS s": {"statistics public.s": "is gone"},
    "DROP COLLATION c": {"collation public.c": "is gone"},
    "DROP TEXT SEARCH CONFIGURATION words": {"text search configuration public.words": "is gone"},
    "DROP OPERATOR === (int, int)": {"operator public.===(integer,integer)": "is gone"},
    "COMMENT ON COLUMN parts.n IS 'other'": {"comment on column public.parts n": "was how many, is other"},
    "GRANT SELECT ON parts TO public": {"rights on table public.parts": "public: SELECT"},
    "GRANT UPDATE (n) ON parts TO public": {"rights on column public.parts n": "was added"},
    "GRANT EXECUTE ON FUNCTION f(int) TO runbook": {"rights on function public.f(a integer)": "runbook: EXECUTE"},
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public": {"default rights of social_selling_user on r": "was added"},
}


def test_a_change_of_any_kind_of_object_is_seen_and_named_once(postgres: Postgres) -> None:
    wrong = {}
    with postgres.connect() as connection:
        connection.execute("SET ROLE social_selling_user")
        connection.execute(MADE)
        before = schema_objects(connection)
        for change, expected in CHANGES.items():
            with connection.transaction(force_rollback=True):
                connection.execute(change)  # type: ignore[call-overload]
                found = differences(before, schema_objects(connection))
            if found.keys() != expected.keys() or not all(text in found[name] for name, text in expected.items()):
                wrong[change] = found

    assert wrong == {}


def test_equal_databases_do_not_differ_and_own_tables_do_not_count(two: Two) -> None:
    two.both(MADE)
    with two.here.connect() as connection:
        connection.execute("CREATE SCHEMA runbook CREATE TABLE mine (a int)")

    assert seen(two) == {}


def test_what_belongs_to_an_extension_goes_with_it(two: Two) -> None:
    with two.server.connect(dbname=two.live.info.dbname) as superuser:
        superuser.execute("CREATE EXTENSION citext")

    assert seen(two) == {"extension citext": "was added"}


def seen(two: Two) -> dict[str, str]:
    with two.there.connect() as there, two.here.connect() as here:
        return differences(schema_objects(there), schema_objects(here))
