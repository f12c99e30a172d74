import socket

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.system.http import is_open


@pytest.mark.parametrize("form", ["{host}:{port}", "http://{host}:{port}", "http://{host}:{port}/health"])
def test_a_port_is_open_while_somebody_listens_and_closed_afterwards(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(host="127.0.0.1", port=server.getsockname()[1])
        assert is_open(address)
    assert not is_open(address)


@pytest.mark.parametrize("address", ["nobody.invalid:80", "localhost", "localhost:http", "localhost:99999"])
def test_an_address_that_cannot_be_asked_is_not_taken_for_closed(address: str) -> None:
    with pytest.raises(AdapterError, match="is unknown"):
        is_open(address)
