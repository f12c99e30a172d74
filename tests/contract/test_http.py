import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.system.http import Answer, DirectHttp, Http, MemoryHttp

from ..support.web_site import Site

TOKEN = "canary-token-5f2a"


def bodies(url: str, token: str | None) -> tuple[int, str]:
    path = "/" + url.rpartition("/")[2]
    return {
        "/json": (200, '{"version": "1.10"}'),
        "/guarded": (200, '"in"') if token == TOKEN else (401, '"out"'),
        "/text": (200, "plain words"),
        "/accent": (200, "é"),
    }.get(path, (404, "no such page"))


@pytest.fixture(params=["direct", "memory"])
def http(request: pytest.FixtureRequest, site: Site, gone: str) -> Iterator[Http]:
    if request.param == "memory":
        yield MemoryHttp(_memory(gone))
        return

    def page(path: str) -> Callable[[str | None], tuple[int, str, bytes]]:
        def answer(header: str | None) -> tuple[int, str, bytes]:
            status, body = bodies(path, header.removeprefix("Bearer ") if header else None)
            return status, "text/plain; charset=utf-8", body.encode()

        return answer

    site.pages.update({path: page(path) for path in ("/json", "/guarded", "/text", "/accent")})
    direct = DirectHttp()
    yield direct
    direct.close()


def _memory(gone: str) -> Callable[[str, str | None], Answer]:
    def answer(url: str, token: str | None) -> Answer:
        if url.startswith(gone) or "@" in url:
            raise ConnectionRefusedError(f"refused with {token}")
        if url.endswith("/hangs"):
            raise TimeoutError
        return Answer.of(*bodies(url, token))

    return answer


def test_json_is_read(http: Http, site: Site) -> None:
    answer = http.get(f"{site.url}/json")
    assert (answer.status, answer.json) == (200, {"version": "1.10"})


def test_a_body_that_is_no_json_has_only_text(http: Http, site: Site) -> None:
    answer = http.get(f"{site.url}/text")
    assert (answer.status, answer.json, answer.text) == (200, None, "plain words")


def test_text_is_decoded(http: Http, site: Site) -> None:
    assert http.get(f"{site.url}/accent").text == "é"


@pytest.mark.parametrize(("path", "status"), [("/guarded", 401), ("/nowhere", 404)])
def test_a_refusal_is_an_answer(http: Http, site: Site, path: str, status: int) -> None:
    assert http.get(site.url + path).status == status


def test_the_token_is_sent_as_bearer(http: Http, site: Site) -> None:
    assert http.get(f"{site.url}/guarded", token=TOKEN).status == 200


def test_a_server_that_is_gone_is_an_error_that_names_the_url(http: Http, gone: str) -> None:
    with pytest.raises(AdapterError, match=f"{gone}/json did not answer"):
        http.get(f"{gone}/json")


def test_a_server_that_is_silent_is_an_error_after_the_timeout(http: Http, site: Site) -> None:
    with pytest.raises(AdapterError, match=r"/hangs did not answer: nothing within 0\.2 s"):
        http.get(f"{site.url}/hangs", timeout=0.2)


def test_an_error_shows_neither_token_nor_password(http: Http, gone: str) -> None:
    with pytest.raises(AdapterError) as raised:
        http.get(gone.replace("//", "//user:canary-password@") + "/json", token=TOKEN)
    assert [secret for secret in (TOKEN, "canary-password", "user:") if secret in str(raised.value)] == []


def test_a_token_that_cannot_be_sent_is_an_error_that_does_not_show_it(site: Site) -> None:
    with pytest.raises(AdapterError) as raised:
        DirectHttp().get(site.url, token="canary\nwith-a-newline")
    assert "with-a-newline" not in str(raised.value)


def test_an_answer_that_drips_is_an_error_after_the_timeout(site: Site) -> None:
    with pytest.raises(AdapterError, match="nothing within"):
        DirectHttp().get(f"{site.url}/drips", timeout=0.3)


def test_a_proxy_of_the_environment_is_not_asked(site: Site, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", gone)
    assert DirectHttp().get(f"{site.url}/nowhere").status == 404


def test_a_server_that_restarted_is_asked_again() -> None:
    http = DirectHttp()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for word in ("before", "after"):
            answered = threading.Thread(target=_answer_once, args=(listener, word))
            answered.start()
            assert http.get(f"http://127.0.0.1:{listener.getsockname()[1]}").json == word
            answered.join()


def _answer_once(listener: socket.socket, word: str) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(10_000)
        body = json.dumps(word)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


BODY = {"name": "Zo\u00eb"}


@pytest.mark.parametrize(
    ("content_type", "body", "headers"),
    [
        ("application/json", json.dumps(BODY, ensure_ascii=False).encode(), {}),
        ("application/json; charset=iso-8859-1", json.dumps(BODY, ensure_ascii=False).encode("latin-1"), {}),
        ("application/json; charset=unheard-of", json.dumps(BODY, ensure_ascii=False).encode(), {}),
        ("application/json", json.dumps(BODY, ensure_ascii=False).encode("utf-8-sig"), {}),
        ("application/json", json.dumps(BODY, ensure_ascii=False).encode("utf-16"), {}),
        ("application/json", gzip.compress(json.dumps(BODY).encode()), {"Content-Encoding": "gzip"}),
        ("application/json", zlib.compress(json.dumps(BODY).encode()), {"Content-Encoding": "deflate"}),
    ],
    ids=["UTF-8", "as said", "as nobody knows", "byte order mark", "UTF-16", "gzip", "deflate"],
)
def test_json_is_read_however_it_is_written(site: Site, content_type: str, body: bytes, headers: dict[str, str]) -> None:
    site.pages["/written"] = (200, content_type, body)
    site.headers["/written"] = headers
    direct = DirectHttp()

    assert direct.get(f"{site.url}/written").json == BODY
    direct.close()


def test_what_is_not_compressed_as_it_says_is_no_answer(site: Site) -> None:
    site.pages["/written"] = (200, "application/json", b"{}")
    site.headers["/written"] = {"Content-Encoding": "gzip"}
    direct = DirectHttp()

    with pytest.raises(AdapterError, match="did not answer: DecodingError"):
        direct.get(f"{site.url}/written")
    direct.close()
