"""Three workers share two cores, as some of them wait; terminals are plain, and the cache is their
own.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from paradise_cli.core.resources import data_dir

os.environ["OMP_NUM_THREADS"] = "1"
os.environ |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}

# A script's `&` has it ignored, also by the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

DRAWN = Figure.savefig


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep for later calls neither reaches the user's cache nor comes from it."""
    with pytest.MonkeyPatch.context() as patch:
        # Data sets that the user has stay where they are.
        patch.setenv("PARADISE_DATA", str(data_dir()))
        patch.setenv("PARADISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_fast_bf16() -> Iterator[None]:
    """`auto` is fp32 on every CPU, as a search in bf16 takes other steps and one more attack."""
    known = {
        name: value for name, value in torch.cpu.get_capabilities().items() if "bf16" not in name
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: known)
        yield


@pytest.fixture(scope="session", autouse=True)
def blank_pictures() -> Iterator[None]:
    """Figures are built, and saved as one white pixel.

    To draw the letters of its two pictures takes a second, longer than most trainings here.
    """

    def save(figure: Figure, path: Path, **settings: Any) -> None:
        Image.new("L", (1, 1), 255).save(path, "PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as users see them, for the tests that look at one."""
    monkeypatch.setattr(Figure, "savefig", DRAWN)


@pytest.fixture
def saved_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at the end of each epoch, however short; else one a second would do."""
    monkeypatch.setattr("paradise_cli.training.loop.EPOCH_SECONDS", 0.0)
