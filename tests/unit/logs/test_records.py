"""A stack trace is one error with its lines; errors of one kind are recognised by their message."""

from textwrap import dedent

import pytest

from runbook_lib.logs import Severity, formats
from runbook_lib.logs.records import counted, records

TRACES = {
    "node": """
        Error: connect ECONNREFUSED 127.0.0.1:5432
            at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1607:16) {
          errno: -111,
          code: 'ECONNREFUSED'
        }

        Node.js v20.1.0
        """,
    "node with a cause": """
        QueryFailedError: column Message.attachments does not exist
            at PostgresQueryRunner.query (/app/a.js:1:2) {
          query: 'SELECT 1',
          driverError: error: column Message.attachments does not exist
              at Parser.parseErrorMessage (/app/b.js:1:2) {
            length: 100,
          },
          [cause]: Error: boom
              at f (/app/c.js:1:2)
        }
        """,
    "node under journald": """
        Nov 03 12:00:00 host shop[7]: Error: boom
        Nov 03 12:00:00 host shop[7]:     at f (/app/a.js:1:2)
        Nov 03 12:00:00 host shop[7]: }
        """,
    "nest": """
        [Nest] 1  - 11/03/2025, 12:00:00 PM   ERROR [ExceptionsHandler] column x does not exist
        QueryFailedError: column x does not exist
            at PostgresQueryRunner.query (/app/a.js:1:2)
        """,
    "the message again, without frames": """
        2025-11-03T12:00:00.000Z error: column x does not exist
        QueryFailedError: column x does not exist
        """,
    "winston": """
        2025-11-03T12:00:00.000Z error: boom
        Error: boom
            at f (/app/a.js:1:2)
        """,
    "pino-pretty": """
        [12:00:00.123] ERROR (7): request failed
            err: {
              "type": "DatabaseError",
              "message": "column x does not exist",
              "stack":
                  error: column x does not exist
                      at Parser.parseErrorMessage (/app/a.js:1:2)
            }
        """,
    "python": """
        2025-11-03 12:00:00,123 ERROR shop: failed
        Traceback (most recent call last):
          File "/app/a.py", line 1, in f
            g()
        psycopg.errors.UndefinedColumn: column "x" does not exist
        LINE 1: SELECT x
                       ^

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/app/a.py", line 2, in f
            g()
        ValueError: boom
        """,
    "python, printed": """
        Traceback (most recent call last):
          File "/app/a.py", line 1, in f
        sqlalchemy.exc.ProgrammingError: (psycopg.errors.UndefinedColumn) column "x" does not exist
        LINE 1: SELECT x
                       ^
        [SQL: SELECT x]
        (Background on this error at: https://sqlalche.me/e/20/f405)
        """,
    "java": """
        12:00:00.123 [main] ERROR com.shop.Orders - failed
        java.lang.IllegalStateException: boom
        \tat com.shop.Orders.pay(Orders.java:1)
        Caused by: java.lang.NullPointerException: null
        \tat com.shop.Orders.pay(Orders.java:2)
        \t... 12 more
        """,
    "go": """
        panic: runtime error: index out of range [1] with length 1

        goroutine 1 [running]:
        main.main()
        \t/app/main.go:7 +0x1d
        exit status 2
        """,
    "ruby": """
        E, [2025-11-03T12:00:00.123456 #7] ERROR -- : NoMethodError (undefined method 'x' for nil):
        app/models/order.rb:3:in 'pay'
        app/controllers/orders_controller.rb:3:in 'create'
        """,
    ".NET": """
        fail: Shop.Orders[0]
              failed
              System.InvalidOperationException: boom
                 at Shop.Orders.Pay() in /app/Orders.cs:line 1
        """,
}
BEFORE, AFTER = '{"level":30,"msg":"before"}', '{"level":30,"msg":"after"}'


@pytest.mark.parametrize("name", TRACES)
def test_a_stack_trace_is_one_error_with_all_its_lines(name: str) -> None:
    trace = [line for line in dedent(TRACES[name]).strip("\n").splitlines() if line.strip()]

    before, error, after = records([BEFORE, *trace, AFTER], formats())

    assert (error.severity, error.lines) == (Severity.ERROR, trace)
    assert (before.severity, after.severity) == (Severity.NO_ERROR, Severity.NO_ERROR)


@pytest.mark.parametrize("name", TRACES)
def test_the_same_trace_twice_is_two_errors_of_one_kind(name: str) -> None:
    trace = dedent(TRACES[name]).strip("\n").splitlines()

    found = [each for each in records([*trace, BEFORE, *trace], formats()) if each.severity is Severity.ERROR]

    assert (len(found), found[0].kind) == (2, found[1].kind)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            '{"level":50,"time":1,"msg":"order 7 failed","reqId":"a-1"}',
            '{"level":50,"time":2,"msg":"order 8 failed","reqId":"b-2"}',
        ),
        ("2025-11-03 12:00:00,123 ERROR shop: order 7 failed", "2025-11-04 12:00:00,456 ERROR shop: order 8812 failed"),
        (
            "ERROR user 3f2504e0-4f89-11d3-9a0c-0305e82c3301 is gone",
            "ERROR user 6ba7b810-9dad-11d1-80b4-00c04fd430c8 is gone",
        ),
        ("GET /orders/7?page=1 500 12 ms - 5", "GET /orders/8 500 3 ms - 5"),
        ("Error: connect ECONNREFUSED 10.0.0.7:5432", "Error: connect ECONNREFUSED 10.0.0.8:5432"),
        ("ERROR commit deadbeef01 not found", "ERROR commit 0badc0ffee not found"),
    ],
)
def test_times_numbers_and_ids_make_no_other_kind(one: str, other: str) -> None:
    first, second = records([one, other], formats())

    assert first.kind == second.kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ERROR order failed", "ERROR payment failed"),
        ('error: column "attachments" does not exist', 'error: column "media" does not exist'),
        ('{"level":50,"msg":"failed","err":{"message":"a"}}', '{"level":50,"msg":"failed","err":{"message":"b"}}'),
        ("GET /orders 500 12 ms - 5", "GET /payments 500 12 ms - 5"),
        ("ERROR:    Exception in ASGI application\nTraceback (most recent call last):\n  File \"a\"\nKeyError: 'a'",
         "ERROR:    Exception in ASGI application\nTraceback (most recent call last):\n  File \"a\"\nKeyError: 'b'"),
    ],
)  # fmt: skip
def test_what_says_something_else_is_another_kind(one: str, other: str) -> None:
    first, second = records([*one.splitlines(), "INFO x", *other.splitlines()], formats())[::2]

    assert first.kind != second.kind


def test_an_exception_after_an_error_of_its_own_is_another_error() -> None:
    found = records(['{"level":60,"msg":"giving up"}', "Error: boom", "    at f (/app/a.js:1:2)", "TypeError: x"], formats())

    assert [len(each.lines) for each in found if each.severity is Severity.ERROR] == [1, 2, 1]


def test_a_trace_below_a_line_that_is_no_error_is_none() -> None:
    lines = ["2025-11-03 12:00:00,123 WARNING shop: retrying", "    Error: boom", "      at f (/app/a.js:1:2)"]

    assert [each.severity for each in records(lines, formats())] == [Severity.NO_ERROR]


def test_a_traceback_after_a_line_that_is_no_error_is_an_error() -> None:
    lines = ["INFO:     Started", "Traceback (most recent call last):", '  File "a"', "KeyError: 1", "INFO:     Stopped"]

    assert [each.severity for each in records(lines, formats())] == [Severity.NO_ERROR, Severity.ERROR, Severity.NO_ERROR]


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        pytest.param(["50 %\r99 %\rERROR lost"], 1, id="after progress"),
        pytest.param(["<-- GET /x", "  --> GET /x 500 3ms 1b"], 1, id="a request that is indented"),
        pytest.param(
            ["[11/03/25 12:00:00] INFO     x  a.py:1", " " * 20 + "ERROR    y  a.py:2"], 1, id="Rich leaves a time out"
        ),
        pytest.param(
            ["  2025-11-03T12:00:00Z  INFO a: x", "    at a.rs:1", "  2025-11-03T12:00:00Z ERROR a: y"], 1, id="Rust's"
        ),
        pytest.param(["{", "  level: 'error',", "  message: 'x'", "}"], 1, id="an object as Node prints it"),
        pytest.param(["{", '  "level": "info",', '  "message": "error"', "}"], 0, id="JSON on several lines"),
        pytest.param(["INFO config {", '  "level": "error"', "}"], 0, id="an object in a message"),
        pytest.param(["could not save it: Error: x", "    at f (/app/a.js:1:2)"], 1, id="words before an exception"),
        pytest.param(["Invalid `prisma.x()` invocation:", "column x", "    at f (/app/a.js:1:2)"], 1, id="Prisma's"),
        pytest.param(["(node:7) MaxListenersExceededWarning: x", "    at f (/app/a.js:1:2)"], 0, id="a warning with frames"),
        pytest.param(
            ["2025-11-03T12:00:00: Error: x", "2025-11-03T12:00:00:     at f (/app/a.js:1:2)"], 1, id="times of pm2"
        ),
    ],
)
def test_lines_after_another_are_errors_of_their_own_or_none(lines: list[str], errors: int) -> None:
    found = [each for each in records([BEFORE, *lines, AFTER], formats()) if each.severity is Severity.ERROR]

    assert len(found) == errors


def test_lines_are_counted_by_format() -> None:
    lines = ['{"level":30,"msg":"x"}', "hello", "Error: x", "    at f (a.js:1:2)", '{"level":30,"msg":"x"}', "INFO x"]

    assert counted(records(lines, formats())) == {"json": 2, "exceptions": 2, "leveled": 1, "": 1}


@pytest.mark.parametrize("lines", [[], ["", "  "], ["\x00\x01\x02\ufffd" * 50]])
def test_what_is_no_text_is_of_no_format(lines: list[str]) -> None:
    assert {each.format for each in records(lines, formats())} <= {""}


@pytest.mark.parametrize(
    "line",
    [
        "a" * 200_000, "[" * 50_000, "1 " * 50_000, "a.b:" * 50_000, 'k="' + "\\" * 50_000, "{" * 50_000,
        "- " * 50_000, "2025-11-03 " * 5_000, '"' * 50_000, "Error" * 20_000, "a/" * 50_000, "a=1 " * 50_000,
    ],
)  # fmt: skip
def test_a_long_line_takes_no_long_time(line: str) -> None:
    from time import process_time

    begun = process_time()
    records([line] * 5, formats())

    assert process_time() - begun < 5


def test_only_the_named_formats_are_tried() -> None:
    (found,) = records(["ERROR x"], ["json", "access"])

    assert (found.severity, found.format) == (Severity.NO_ERROR, "")
