"""Places on the network, there or not."""

import socket
from collections.abc import Iterator

import pytest

from .contract_site import Site, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        yield made


@pytest.fixture
def gone() -> Iterator[str]:
    """The URL of a port that is held, and where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
