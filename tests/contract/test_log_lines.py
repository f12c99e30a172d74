import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from runbook_lib import services

MOMENT = datetime(2026, 11, 22, 20, 7, 53, 123_900, tzinfo=UTC)


@pytest.fixture
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC-2")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("2026-11-22T20:07:53.123+00:00 INFO in the same millisecond", True),
        ("2026-11-22T20:07:53.122+00:00 INFO before", False),
        ("2026-11-22T20:07:53.124Z INFO after", True),
        ("2026-11-22T21:07:53.122+01:00 INFO before, elsewhere", False),
        ("2026-11-22T19:07:53.124-01:00 INFO after, elsewhere", True),
        ("2026-11-22 22:07:53,122 INFO before, in local time", False),
        ("2026-11-22 22:07:53,124 INFO after, in local time", True),
        ("2026-11-22T20:07:53Z in the same second", True),
        ("2026-11-22T20:07:52Z in the second before", False),
        ('{"level":30,"time":1795378073123,"msg":"pino, in the same millisecond"}', True),
        ('{"level":30,"time":1795378073122,"msg":"pino, before"}', False),
        ('{"message":"winston","level":"info","timestamp":"2026-11-22T20:07:53.122Z"}', False),
        ('{"ts":1795378072.9,"msg":"zap"}', False),
        ('{"level":30,"msg":"no time of its own: \\"time\\":1795378000000"}', True),
        ('time="2026-11-22T20:07:52Z" level=info msg=logrus', False),
        ("time=2026-11-22T20:07:53.124Z level=INFO msg=slog", True),
        ('127.0.0.1 - - [22/Nov/2026:20:07:52 +0000] "GET / HTTP/1.1" 200 5', False),
        ('127.0.0.1 - - [22/Nov/2026:22:07:53 +0200] "GET / HTTP/1.1" 200 5', True),
        ("2026/11/22 22:07:52 [error] 31#31: nginx, in local time", False),
        ("[Nest] 12  - 11/22/2026, 10:07:52 PM     LOG in local time", False),
        ("[Nest] 12  - 11/22/2026, 10:07:53 PM     LOG in local time", True),
        ("[2026-11-22 20:07:52 +0000] [7] [INFO] gunicorn", False),
        ("2026-11-22 20:07:52.999 UTC [7] LOG:  PostgreSQL", False),
        ("E, [2026-11-22T22:07:52.999 #7] ERROR -- : Ruby, in local time", False),
        ("\x1b[32m2026-11-22T20:07:52.999Z\x1b[0m coloured", False),
        ("0|backend  | 2026-11-22T20:07:52.999Z by pm2", False),
        ("[Sun Nov 22 22:07:52.123456 2026] [core:error] Apache, in local time", False),
        ("22-Nov-2026 22:07:52.123 SEVERE [main] Tomcat, in local time", False),
        ("[22-Nov-2026 20:07:52 UTC] PHP Fatal error:  x", False),
        ('127.0.0.1 - - [22/Nov/2026 22:07:52] "GET /x HTTP/1.1" 500 -', False),
        ('[GIN] 2026/11/22 - 22:07:52 | 500 | 1ms | 127.0.0.1 | GET "/x"', False),
        ("ERROR 2026-11-22 22:07:52,123 Django, in local time", False),
        ("[Nest] 7  - 22/11/2026, 22:07:52     LOG of another country", False),
        ("[Nest] 7  - 22.11.2026, 22:07:52     LOG of another country", False),
        ('{"asctime": "2026-11-22 22:07:52,123", "levelname": "ERROR"}', False),
        ('{"t":{"$date":"2026-11-22T20:07:52.000+00:00"},"s":"E"}', False),
        ('{"time_local":"22/Nov/2026:20:07:52 +0000","status":"500"}', False),
        ("1795378072123 ERROR milliseconds", False),
        ("2026-11-22 15:07:52.123 EST [7] ERROR:  of a zone that is not known here", True),
        ("2026-13-45T99:99:99.000Z no time at all", True),
        ("no stamp", True),
    ],
)
@pytest.mark.usefixtures("two_hours_east")
def test_a_line_is_kept_from_the_moment_on_or_when_its_time_is_unknown(line: str, kept: bool) -> None:
    assert services.lines_since([line], MOMENT) == ([line] if kept else [])


def test_lines_without_a_stamp_belong_to_the_one_before() -> None:
    old, new = (MOMENT + timedelta(seconds=offset) for offset in (-1, 1))
    lines = [f"{old.isoformat()} ERROR old", "  trace of old", f"{new.isoformat()} ERROR new", "  trace of new"]
    assert services.lines_since(lines, MOMENT) == lines[2:]


def test_without_a_moment_every_line_is_kept() -> None:
    lines = ["2000-01-01T00:00:00Z long ago", "no stamp"]
    assert services.lines_since(lines, None) == lines
