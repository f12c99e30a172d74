"""Features of any shape: drafted from their migrations, planned, run by papermill to VERIFIED, undone, and cleaned up."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.bare import Bare, runbook

pytestmark = pytest.mark.newest


@dataclass(frozen=True)
class Feature:
    """A feature in SQL: the schema before it, its migrations, its use, and the result of a right rollback."""

    before: str
    migrations: tuple[str, ...]
    use: str
    seen: str
    left: list[tuple[object, ...]]
    everything: str
    migration: dict[str, object] | None = None


LISTS = Feature(
    before="""
        CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version varchar(50), description varchar(200),
            type varchar(20) NOT NULL, script varchar(1000) NOT NULL, checksum int, installed_by varchar(100) NOT NULL,
            installed_on timestamp NOT NULL DEFAULT now(), execution_time int NOT NULL, success boolean NOT NULL);
        INSERT INTO flyway_schema_history VALUES (1, '1', 'a', 'SQL', 'V1__a.sql', 1, 'app', now(), 5, true);
        CREATE TABLE "Photos" ("Id" bigint PRIMARY KEY, "Url" text, "Tags" jsonb);
        INSERT INTO "Photos" SELECT n, 'https://example.org/' || n, '["own"]' FROM generate_series(1, 300) n;
        UPDATE "Photos" SET "Tags" = NULL WHERE "Id" % 3 = 0;""",
    migrations=(
        'ALTER TABLE "Photos" ADD COLUMN "Copies" jsonb;',
        """UPDATE "Photos" SET "Copies" = jsonb_build_array(jsonb_build_object('url', "Url"));""",
    ),
    use="""
        INSERT INTO flyway_schema_history VALUES (2, '2', 'b', 'SQL', 'V2__b.sql', 2, 'app', now(), 5, true),
            (3, '2.1', 'c', 'SQL', 'V2.1__c.sql', 3, 'app', now(), 5, true);
        INSERT INTO "Photos" VALUES (301, 'https://example.org/new', NULL, '[]');
        UPDATE "Photos" SET "Copies" = '[{"url": "mine"}]' WHERE "Id" = 5;""",
    seen="""SELECT count(*), count("Tags"), count(*) FILTER (WHERE "Tags" = '["own"]'), (SELECT string_agg(column_name, ','
        ORDER BY column_name) FROM information_schema.columns WHERE table_name = 'Photos'),
        (SELECT string_agg(version, ',') FROM flyway_schema_history) FROM "Photos\"""",
    left=[(301, 200, 200, "Id,Tags,Url", "1")],
    everything="""SELECT (SELECT jsonb_agg(to_jsonb(p) ORDER BY "Id") FROM "Photos" p),
        (SELECT jsonb_agg(to_jsonb(h) ORDER BY version) FROM flyway_schema_history h)""",
    migration={"tool": "flyway", "repository": "backend", "versions": ["2", "2.1"]},
)

MANY_KINDS = Feature(
    before="""
        CREATE TABLE shops (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), mail text NOT NULL, plan text);
        CREATE TABLE bills (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), shop uuid REFERENCES shops, cents bigint);
        INSERT INTO shops (id, mail) SELECT md5(n::text)::uuid, 'Shop' || n || '@Example.org' FROM generate_series(1, 40) n;
        INSERT INTO bills (id, shop, cents) SELECT md5('b' || n)::uuid, md5((1 + n % 40)::text)::uuid, 100 * n
            FROM generate_series(1, 200) n;""",
    migrations=(
        """CREATE TYPE state AS ENUM ('open', 'paid');
        ALTER TABLE bills ADD COLUMN fee bigint, ADD COLUMN state state NOT NULL DEFAULT 'open';
        CREATE TABLE payments (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), bill uuid NOT NULL REFERENCES bills);""",
        """CREATE FUNCTION charge_fee() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.fee := NEW.cents / 10; RETURN NEW; END $$;
        CREATE TRIGGER charge_fee BEFORE INSERT ON bills FOR EACH ROW EXECUTE FUNCTION charge_fee();
        CREATE VIEW owing AS SELECT shop, sum(cents) AS cents FROM bills WHERE state = 'open' GROUP BY shop;
        UPDATE bills SET fee = cents / 10;
        UPDATE shops SET mail = lower(mail);
        ALTER TABLE shops ADD CONSTRAINT lower_mail CHECK (mail = lower(mail));""",
    ),
    use="""
        INSERT INTO bills (id, shop, cents) VALUES (md5('new')::uuid, md5('1')::uuid, 5000);
        INSERT INTO payments (bill) VALUES (md5('new')::uuid);
        UPDATE bills SET state = 'paid' WHERE cents = 200;
        UPDATE shops SET mail = 'changed@example.org' WHERE mail = 'shop3@example.org';""",
    seen="""SELECT (SELECT count(*) FROM bills), (SELECT count(*) FROM shops WHERE mail LIKE 'Shop%@Example.org'),
        (SELECT count(*) FROM shops WHERE mail = 'changed@example.org'), to_regclass('payments'), to_regclass('owing'),
        to_regtype('state'), to_regproc('charge_fee'), (SELECT count(*) FROM pg_constraint WHERE conname = 'lower_mail'),
        (SELECT count(*) FROM information_schema.columns WHERE table_name = 'bills')""",
    left=[(201, 39, 1, None, None, None, None, 0, 3)],
    everything="""SELECT (SELECT jsonb_agg(to_jsonb(b) ORDER BY id) FROM bills b),
        (SELECT jsonb_agg(to_jsonb(s) ORDER BY id) FROM shops s)""",
)

PARTITIONED = Feature(
    before="""
        CREATE TABLE events (id bigint, created_at date NOT NULL, body text, PRIMARY KEY (id, created_at))
            PARTITION BY RANGE (created_at);
        CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE events_2026_02 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO events SELECT n, date '2026-01-01' + n % 50, 'body ' || n FROM generate_series(1, 400) n;""",
    migrations=(
        "ALTER TABLE events ADD COLUMN length int; CREATE INDEX events_by_length ON events (length);",
        "UPDATE events SET length = char_length(body);",
    ),
    use="""
        INSERT INTO events VALUES (401, '2026-02-03', 'new', 3);
        UPDATE events SET body = 'edited', length = 6 WHERE id = 10;""",
    seen="""SELECT count(*), count(*) FILTER (WHERE body = 'body ' || id), count(*) FILTER (WHERE body IN ('new', 'edited')),
        to_regclass('events_by_length'), (SELECT count(*) FROM pg_attribute WHERE attname = 'length' AND NOT attisdropped
        AND attrelid = 'events'::regclass) FROM events""",
    left=[(401, 399, 2, None, 0)],
    everything="SELECT to_jsonb(e) FROM events e ORDER BY id",
)


@pytest.mark.slow
@pytest.mark.parametrize("feature", [LISTS, MANY_KINDS, PARTITIONED], ids=["lists", "many-kinds", "partitioned"])
def test_a_feature_is_rolled_back_verified_undone_and_cleaned_up(target: Bare, feature: Feature) -> None:
    target.ask(feature.before)
    target.backed_up()
    target.plan |= drafted(target, feature)
    for script in (*feature.migrations, feature.use):
        target.ask(script)
    used = target.ask(feature.everything)
    target.plan["steps"]["take-back"] = {"kind": "take_back"}
    target.steps("stop-services", "back-up", "take-back")

    planned = target.planned("B")
    assert planned.exit_code == 0, planned.text
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask(feature.seen) == feature.left
    assert "copies-for-undo" in runbook("status", target.run).text

    undone = runbook("undo", target.run, "--step", "take-back")
    digest = undone.text.split("--approve ")[1].split()[0]
    assert runbook("undo", target.run, "--step", "take-back", "--approve", digest).exit_code == 0
    assert target.ask(feature.everything) == used
    assert copies(target) == []


@pytest.mark.slow
@pytest.mark.parametrize("at", ["copies:Copies.keep", "live:stage", "live:apply", "live:drop_staged", "live:compare"])
def test_a_run_whose_kernel_is_killed_resumes_to_the_same_end(target: Bare, at: str) -> None:
    target.ask(MANY_KINDS.before)
    target.backed_up()
    target.plan |= drafted(target, MANY_KINDS)
    for script in (*MANY_KINDS.migrations, MANY_KINDS.use):
        target.ask(script)
    target.plan["steps"]["take-back"] = {"kind": "take_back"}
    target.steps("stop-services", "back-up", "take-back")
    assert target.planned("B").exit_code == 0

    target.dying(f"runbook_lib.postgres.changes.{at}")
    assert target.executed().exit_code not in (0, 2)
    target.dying("")
    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    assert target.ask(MANY_KINDS.seen) == MANY_KINDS.left
    assert len(copies(target)) == 2


def drafted(target: Bare, feature: Feature) -> dict[str, object]:
    """What a plan says of a draft that lies where the target's backups are."""
    before, folder = target.root / "before.dump", target.root / "backups"
    target.dump("--no-owner", before)
    scripts: list[object] = []
    for number, text in enumerate(feature.migrations):
        path = target.root / f"{number}.sql"
        path.write_text(text)
        scripts += ["--migration", path]
    server = target.database.server.conninfo()
    made = runbook("draft", "--feature", "SHOP-9", "--before", before, *scripts, "--server", server, "--folder", folder)
    assert made.exit_code == 0, made.text
    file = Path(folder) / "SHOP-9.changes.yaml"
    digest = made.text.split("SHA-256 ")[1].split(",")[0]
    return {"draft": {"changes": file.name, "sha256": digest}, "migration": feature.migration}


def copies(target: Bare) -> list[str]:
    """The databases that a run made and left."""
    with target.database.server.connect() as connection:
        like = f"{target.database.name}%\\_%"
        found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [like]).fetchall()
    return [name for (name,) in found if "kept" in name or "copy" in name]
