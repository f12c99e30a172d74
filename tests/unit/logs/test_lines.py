"""Lines of many loggers, each as that logger writes it: which are errors, and by which format."""

import pytest

from runbook_lib.logs import Severity, formats
from runbook_lib.logs.records import records

ESC = "\x1b"
ERRORS = [
    ("json", '{"level":50,"time":1764410001000,"pid":1,"hostname":"a","msg":"request failed"}'),
    ("json", '{"level":60,"time":1764410001000,"msg":"giving up","v":1}'),
    ("json", '{"level":"error","message":"boom","timestamp":"2025-11-03T12:00:00.000Z"}'),
    ("json", '{"message":"boom","severity":"CRITICAL"}'),
    ("json", '{"@timestamp":"2025-11-03T12:00:00Z","log.level":"ERROR","message":"boom"}'),
    ("json", '{"@timestamp":"2025-11-03T12:00:00Z","log":{"level":"error"},"message":"boom"}'),
    ("json", '{"name":"app","hostname":"h","pid":1,"level":50,"msg":"boom","time":"2025-11-03T12:00:00Z","v":0}'),
    ("json", '{"event":"boom","level":"error","logger":"app"}'),
    ("json", '{"levelname":"ERROR","message":"boom"}'),
    ("json", '{"levelno":40,"message":"boom"}'),
    ("json", '{"level":400,"level_name":"ERROR","channel":"app","message":"boom"}'),
    ("json", '{"version":"1.1","short_message":"boom","level":3}'),
    ("json", '{"@t":"2025-11-03T12:00:00Z","@l":"Error","@m":"boom"}'),
    ("json", '{"t":{"$date":"2025-11-03T12:00:00Z"},"s":"E","c":"STORAGE","id":1,"msg":"boom"}'),
    ("json", '{"message":"boom","stack":"Error: boom\\n    at f (/app/a.js:1:2)"}'),
    ("json", '{"level":30,"req":{"method":"GET","url":"/x"},"res":{"statusCode":500},"msg":"request completed"}'),
    ("json", '{"status":"502","request":"GET /x HTTP/1.1","body_bytes_sent":"1"}'),
    ("json", '2025-11-03T12:00:00.000Z {"level":"error","message":"boom"}'),
    ("json", '0|backend  | {"level":50,"msg":"boom"}'),
    ("logfmt", 'level=error msg="pool exhausted"'),
    ("logfmt", 'time="2025-11-03T12:00:00Z" level=fatal msg="cannot start" error="no such host"'),
    ("logfmt", "ts=2025-11-03T12:00:00.000Z caller=main.go:12 lvl=eror level=error err=boom"),
    ("logfmt", 'time=2025-11-03T12:00:00.000Z level=ERROR msg="request failed" id=7'),
    ("logfmt", 'at=error code=H12 desc="Request timeout" method=GET path="/" status=503'),
    ("logfmt", 'at=info method=GET path="/" host=x status=503 bytes=0'),
    ("leveled", f"{ESC}[31merror{ESC}[39m: winston with colours"),
    ("leveled", "error: plain winston"),
    ("leveled", "2025-11-03T12:00:00.000Z error: winston with a time"),
    ("leveled", "2025-11-03T12:00:00.000Z [api] error: winston with a label"),
    ("leveled", "2025-11-03 12:00:00 [error]: winston in brackets"),
    ("leveled", "[12:00:00.123] ERROR (1234): pino-pretty"),
    ("leveled", f"[12:00:00.123] {ESC}[31mFATAL{ESC}[39m (app/1234 on host): pino-pretty"),
    ("leveled", "[2025-11-03T12:00:00.123Z] ERROR: app/1234 on host: bunyan (file.js:1)"),
    ("leveled", "[Nest] 12345  - 11/03/2025, 12:00:00 PM   ERROR [ExceptionsHandler] column x does not exist"),
    ("leveled", f"{ESC}[32m[Nest] 1  - {ESC}[39m11/03/2025, 12:00:00 PM {ESC}[31m  ERROR{ESC}[39m {ESC}[3m[A]{ESC}[0m x"),
    ("leveled", "ERROR:root:Python"),
    ("leveled", "2025-11-03 12:00:00,123 - shop.orders - ERROR - Python"),
    ("leveled", "2025-11-03 12:00:00,123 ERROR shop.orders Python"),
    ("leveled", "2025-11-03 12:00:00,123 shop ERROR Python"),
    ("leveled", "2025-11-03 12:00:00,123 4711 MainThread shop.orders ERROR Python"),
    ("leveled", "2025-11-03 12:00:00,123 [CRITICAL] shop: Python"),
    ("leveled", "ERROR 2025-11-03 12:00:00,123 basehttp 7 8 Django"),
    ("leveled", "[2025-11-03 12:00:00 +0000] [7] [ERROR] gunicorn"),
    ("leveled", "[2025-11-03 12:00:00,123: ERROR/MainProcess] celery"),
    ("leveled", "ERROR:    Exception in ASGI application"),
    ("leveled", f"{ESC}[31mERROR{ESC}[0m:    Exception in ASGI application"),
    ("leveled", "2025-11-03 12:00:00 [error    ] structlog                      order=7"),
    ("leveled", "2025-11-03 12:00:00.123 | ERROR    | shop.orders:pay:12 - loguru"),
    ("leveled", "12:00:00.123 [main] ERROR com.shop.Orders - logback"),
    ("leveled", "2025-11-03T12:00:00.123Z ERROR 1 --- [nio-8080-exec-1] c.shop.Orders : Spring"),
    ("leveled", "SEVERE: java.util.logging"),
    ("leveled", "03-Nov-2025 12:00:00.123 SEVERE [main] org.apache.catalina.Tomcat boom"),
    ("leveled", "2025-11-03T12:00:00.123Z\tERROR\tapp/main.go:12\tzap"),
    ("leveled", "2025-11-03T12:00:00.123Z\terror\tapp/main.go:12\tzap"),
    ("leveled", "E1103 12:00:00.123456       1 controller.go:12] klog"),
    ("leveled", "12:00PM ERR zerolog error=boom"),
    ("leveled", "ERRO[0012] logrus on a terminal                 order=7"),
    ("leveled", "E, [2025-11-03T12:00:00.123456 #7] ERROR -- : Ruby"),
    ("leveled", "2025-11-03 12:00:00.123 UTC [77] ERROR:  column \"x\" does not exist at character 8"),
    ("leveled", "2025-11-03 12:00:00.123 UTC [77] shop@shop FATAL:  too many connections"),
    ("leveled", "2025/11/03 12:00:00 [error] 31#31: *1 connect() failed (111: Connection refused)"),
    ("leveled", "2025/11/03 12:00:00 [crit] 31#31: *1 SSL_do_handshake() failed"),
    ("leveled", "[Mon Nov 03 12:00:00.123456 2025] [core:error] [pid 7] Apache"),
    ("leveled", "[2025-11-03T12:00:00Z ERROR shop::orders] Rust"),
    ("leveled", "2025-11-03T12:00:00.123456Z ERROR shop::orders: tracing"),
    ("leveled", "[2025-11-03 12:00:00] production.ERROR: Laravel"),
    ("leveled", "[2025-11-03T12:00:00+00:00] request.CRITICAL: Uncaught PHP Exception"),
    ("leveled", "12:00:00.123 [error] Elixir"),
    ("leveled", "fail: Microsoft.AspNetCore.Server.Kestrel[13]"),
    ("leveled", "[12:00:00 ERR] Serilog"),
    ("leveled", "[12:00:00 FTL] Serilog"),
    ("leveled", "Nov  3 12:00:00 host app[7]: ERROR syslog"),
    ("leveled", "2025-11-03T12:00:01: ERROR pm2 with a time"),
    ("leveled", "backend-1  | 2025-11-03 12:00:00 ERROR compose"),
    ("leveled", " ⨯ Internal error in Next.js"),  # noqa: RUF001
    ("access", '127.0.0.1 - - [03/Nov/2025:12:00:00 +0000] "GET /x HTTP/1.1" 500 52'),
    ("access", '10.0.0.1 - ann [03/Nov/2025:12:00:00 +0000] "POST /x?y=1 HTTP/2.0" 503 52 "-" "curl/8"'),
    ("access", 'shop.test:443 10.0.0.1 - - [03/Nov/2025:12:00:00 +0000] "GET /x HTTP/1.1" 502 52'),
    ("access", 'INFO:     127.0.0.1:51234 - "GET /x HTTP/1.1" 500 Internal Server Error'),
    ("access", '2025-11-03 12:00:00 INFO uvicorn.access 127.0.0.1:51234 - "GET /x HTTP/1.1" 500'),
    ("access", 'INFO:werkzeug:127.0.0.1 - - [03/Nov/2025 12:00:00] "GET /x HTTP/1.1" 500 -'),
    ("access", '[03/Nov/2025 12:00:00] "GET /x HTTP/1.1" 500 145'),
    ("access", '[2025-11-03T12:00:00.123Z] "GET /x HTTP/1.1" 503 UF 0 91 5 -'),
    ("access", "GET /api/messaging/conversations/1/messages 500 12.301 ms - 52"),
    ("access", f"{ESC}[0mGET /x {ESC}[31m500{ESC}[0m 12.301 ms - 52{ESC}[0m"),
    ("access", "127.0.0.1 - GET /x HTTP/1.1 500 52 - 12.3 ms"),
    ("access", "2025-11-03T12:00:00.123Z INFO GET /x 500"),
    ("access", "[GIN] 2025/11/03 - 12:00:00 | 500 |    1.2ms |  127.0.0.1 | GET      \"/x\""),
    ("access", "Completed 500 Internal Server Error in 12ms (ActiveRecord: 1.2ms)"),
    ("access", "I, [2025-11-03T12:00:00.123456 #7]  INFO -- : Completed 500 Internal Server Error in 12ms"),
    ("access", " GET /api/x 500 in 12ms"),
    ("exceptions", "TypeError: Cannot read properties of undefined (reading 'map')"),
    ("exceptions", "TypeError [ERR_INVALID_ARG_TYPE]: The \"path\" argument must be of type string"),
    ("exceptions", "QueryFailedError: column Message.attachments does not exist"),
    ("exceptions", "PrismaClientKnownRequestError: "),
    ("exceptions", "UnhandledPromiseRejection: This error originated inside an async function"),
    ("exceptions", "(node:7) UnhandledPromiseRejectionWarning: Error: boom"),
    ("exceptions", "Uncaught TypeError: x is not a function"),
    ("exceptions", "Unhandled Rejection at: Promise { <rejected> }"),
    ("exceptions", "2025-11-03T12:00:00.000Z AxiosError: Request failed with status code 500"),
    ("exceptions", "Traceback (most recent call last):"),
    ("exceptions", "java.lang.NullPointerException: boom"),
    ("exceptions", 'Exception in thread "main" java.lang.IllegalStateException'),
    ("exceptions", "Unhandled exception. System.InvalidOperationException: boom"),
    ("exceptions", "panic: runtime error: index out of range"),
    ("exceptions", "fatal error: all goroutines are asleep - deadlock!"),
    ("exceptions", "thread 'main' panicked at src/main.rs:2:5:"),
    ("exceptions", "PHP Fatal error:  Uncaught Exception: boom"),
    ("exceptions", "app.rb:3:in 'pay': undefined method 'x' for nil (NoMethodError)"),
    ("exceptions", "npm ERR! code ELIFECYCLE"),
    ("leveled", "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
]  # fmt: skip

NO_ERRORS = [
    "INFO finished: 0 ERROR, 3 ok",
    '{"level":30,"msg":"set LOG_LEVEL to ERROR with SIGUSR2"}',
    '{"level":30,"msg":"ok","err":null}',
    '{"level":"info","message":"no error","error":null}',
    '{"level":"info","message":"retried","error":"ECONNRESET"}',
    '{"level":40,"msg":"deprecated"}',
    '{"level":"warn","message":"TypeError: x"}',
    '{"level":30,"req":{"method":"GET","url":"/x"},"res":{"statusCode":404},"msg":"request completed"}',
    '{"level":30,"msg":"message 500 sent","id":500}',
    '{"level":30,"msg":"{\\"level\\":50}"}',
    'level=info msg="no error"',
    'level=info msg="level=error"',
    'level=warn msg="slow" status=200',
    "time=2025-11-03T12:00:00Z level=DEBUG msg=ERROR",
    "at=info method=GET path=/ status=404",
    '127.0.0.1 - - [03/Nov/2025:12:00:00 +0000] "GET /error HTTP/1.1" 404 500',
    '127.0.0.1 - - [03/Nov/2025:12:00:00 +0000] "GET /x HTTP/1.1" 200 500 "-" "Error: 500"',
    'INFO:     127.0.0.1:51234 - "GET /x HTTP/1.1" 422 Unprocessable Entity',
    "GET /api/messages/500 200 12.301 ms - 500",
    "GET /x 499 500.1 ms - -",
    "2025-11-03T12:00:00.123Z INFO GET /messages/500 200",
    "2025-11-03 12:00:00,123 - shop.errors - INFO - ERROR handler registered",
    "2025-11-03 12:00:00,123 WARNING shop: last ERROR was 3 days ago",
    "2025-11-03T12:00:00Z INFO log level is ERROR",
    "2025-11-03T12:00:00Z INFO user wrote: TypeError: x",
    "[12:00:00.123] INFO (1234): 0 errors",
    "[Nest] 12345  - 11/03/2025, 12:00:00 PM     LOG [ErrorModule] ERROR codes loaded",
    "[Nest] 12345  - 11/03/2025, 12:00:00 PM    WARN [A] Error: is expected",
    "info: error: is part of what it says",
    "warn: Error: connection lost, retrying",
    "DEBUG:urllib3.connectionpool:http://shop.test:80 \"GET /x HTTP/1.1\" 503 None",
    "2025-11-03 12:00:00.123 UTC [77] LOG:  database system is ready",
    "2025-11-03 12:00:00.123 UTC [77] STATEMENT:  SELECT 'ERROR'",
    "2025/11/03 12:00:00 [notice] 1#1: signal process started",
    "2025/11/03 12:00:00 [warn] 31#31: *1 an upstream response is buffered",
    "I, [2025-11-03T12:00:00.123456 #7]  INFO -- : ERROR is a word",
    "I1103 12:00:00.123456       1 controller.go:12] ERROR count 0",
    "WARN[0012] logrus: error was ignored",
    "Completed 404 Not Found in 500ms",
    " ✓ Compiled /500 in 12ms",
    '[GIN] 2025/11/03 - 12:00:00 | 200 |    500ms |  127.0.0.1 | GET      "/500"',
]  # fmt: skip

UNLEVELED = [  # neither an error nor of a known format
    "server listening on 3000",
    "0 errors",
    "finished: 0 errors, 3 warnings",
    "Errors: 0",
    "no ERROR found",
    "LOG_LEVEL=ERROR",
    "LOG_LEVEL: ERROR",
    "log level: ERROR",
    "starting with log level ERROR",
    "2025-11-03T12:00:00Z log level: ERROR",
    "2025-11-03T12:00:00Z set level to ERROR",
    "2025-11-03T12:00:00Z 3 ERROR lines were dropped",
    "message 500 was sent to 500 people",
    "(node:7) [DEP0040] DeprecationWarning: The `punycode` module is deprecated.",
    "(node:7) ExperimentalWarning: Fetch is experimental",
    "(node:7) MaxListenersExceededWarning: Possible EventEmitter memory leak",
    "/app/x.py:3: DeprecationWarning: invalid escape sequence",
    "the user wrote Error: nothing works",
    "errorHandler registered",
    "ErrorBoundary mounted",
    "deleted 500 rows",
    "DELETE /messages 500 rows",
    "retrying GET https://shop.test/x 503",
    "{not json",
    '{"type":"metric","value":500}',
    "",
]


@pytest.mark.parametrize(("name", "line"), ERRORS)
def test_an_error_is_seen_by_its_format(name: str, line: str) -> None:
    (found,) = records([line], formats())

    assert (found.severity, found.format) == (Severity.ERROR, name)


@pytest.mark.parametrize("line", NO_ERRORS)
def test_a_line_that_its_level_or_status_clears_is_no_error(line: str) -> None:
    (found,) = records([line], formats())

    assert (found.severity, bool(found.format)) == (Severity.NO_ERROR, True)


@pytest.mark.parametrize("line", UNLEVELED)
def test_a_line_without_a_level_is_no_error_and_of_no_format(line: str) -> None:
    assert [(found.severity, found.format) for found in records([line], formats())] in ([], [(Severity.NO_ERROR, "")])


@pytest.mark.parametrize(
    "line", ['{"level":"audit","msg":"x"}', "level=audit msg=x", '{"level":3,"msg":"x"}', '{"level":[],"msg":"x"}']
)
def test_a_level_that_nobody_knows_is_unclear(line: str) -> None:
    (found,) = records([line], formats())

    assert found.severity is Severity.UNCLEAR
