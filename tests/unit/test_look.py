"""What a dump says of its tables, read without restoring it."""

from runbook_lib.postgres.restore.dump_inspector import columns_by_table

DUMPED = """
CREATE TABLE "My Sch"."Odd ""T" (
    "Id, x" bigint NOT NULL,
    v character varying(20) DEFAULT 'a,b (
    c text'::character varying COLLATE "C" NOT NULL,
    n numeric(10,2)[] DEFAULT ARRAY[1,2],
    total numeric(10,2) GENERATED ALWAYS AS ((a * b)) STORED,
    "constraint" text,
    at timestamp with time zone DEFAULT now() NOT NULL,
    mood public."Mood",
    CONSTRAINT c CHECK ((a = ANY (ARRAY['x'::text, 'y'::text])))
)
PARTITION BY RANGE (at);

CREATE UNLOGGED TABLE public.plain (
    id integer
);

CREATE TABLE public.none (
);
"""


def test_columns_and_types_are_read_whatever_they_are_called() -> None:
    assert columns_by_table(DUMPED) == {
        'My Sch.Odd "T': {
            "Id, x": "bigint",
            "v": "character varying(20)",
            "n": "numeric(10,2)[]",
            "total": "numeric(10,2)",
            "constraint": "text",
            "at": "timestamp with time zone",
            "mood": 'public."Mood"',
        },
        "public.plain": {"id": "integer"},
        "public.none": {},
    }
