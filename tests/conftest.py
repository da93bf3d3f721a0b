"""Two workers share two cores: each takes one, terminals are plain, and the cache is their own."""

import os
from collections.abc import Iterator

import pytest

from paradise_cli.core.resources import data_dir

os.environ["OMP_NUM_THREADS"] = "1"
os.environ |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep for later calls neither reaches the user's cache nor comes from it."""
    with pytest.MonkeyPatch.context() as patch:
        # Data sets that the user has stay where they are.
        patch.setenv("PARADISE_DATA", str(data_dir()))
        patch.setenv("PARADISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
