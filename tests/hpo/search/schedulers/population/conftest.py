"""One store for all studies of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import working_in


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with working_in(tmp_path_factory.mktemp("population")):
        yield
