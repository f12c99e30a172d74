"""Places on the network, there or not, and real service managers."""

import os
import shutil
import socket
from collections.abc import Iterator

import pytest

from ..support.docker import Docker, an_engine
from ..support.pm2 import Pm2, a_pm2, pm2_command
from ..support.supervisor import Supervisord, supervising
from ..support.web_site import Site, serving


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


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with supervising() as made:
        yield made


@pytest.fixture(scope="session")
def pm2() -> Iterator[Pm2]:
    command = pm2_command()
    if command is None:
        pytest.skip("pm2 is not here; .ci/setup test installs it where npm is")
    with a_pm2(command) as made:
        yield made


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    missing = [name for name in ("dockerd", "docker", "docker-compose", "busybox") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"an engine needs root, and {', '.join(missing) or 'all else is here'}; .ci/setup test installs it")
    with an_engine() as made:
        yield made
