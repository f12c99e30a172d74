"""What a stack makes itself is what these tests are about."""

from collections.abc import Iterator

import pytest

from ...support.made_once import each_its_own


@pytest.fixture(scope="module", autouse=True)
def own_stacks() -> Iterator[None]:
    with each_its_own():
        yield
