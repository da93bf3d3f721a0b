"""A hundred pulls from a Hub that fails in every way of tests/test_pull.py, each then healed.

    python benchmarks/hub_faults.py --save

The Hub is the fake one of the tests, the client the real one. A pull hangs if it takes more than
45 seconds; it is wrong if it gives weights although it should fail, or other ones when it heals.
"""

import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from timing import machine, options

# The tests are no package that is installed, and scripts see their own folder alone.
sys.path.insert(0, str(Path(__file__).parent.parent))

from results import save

from paradise_cli.core.errors import ParadiseError
from paradise_cli.hub.pull import pull
from paradise_cli.hub.records import hub_cache
from tests.fake_hub import FakeHub, running
from tests.tiny_model import save_tiny

FAULTS = (
    "truncated", "reset", "wrong bytes", "html", "404", "gated", "private", "no revision",
    "unknown token", "500", "dropped", "refused", "offline", "portal", "redirect", "no digest",
    "full", "stalled",
)  # fmt: skip
HANGS = 45.0


@contextmanager
def failing(hub: FakeHub, fault: str) -> Iterator[None]:
    """The Hub, or what lies between, in that state."""
    hub.fault = fault
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if fault == "refused":
            with running() as gone:
                os.environ["HF_ENDPOINT"] = gone.url
        if fault == "offline":
            os.environ["HF_HUB_OFFLINE"] = "1"
        if fault == "full":  # for files of more than 4 KiB
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        yield
    finally:
        hub.fault = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.environ["HF_ENDPOINT"] = hub.url
        os.environ.pop("HF_HUB_OFFLINE", None)


def tried(hub: FakeHub, fault: str, weights: bytes) -> dict[str, Any]:
    """One pull that should fail, and one that should then not."""
    started = time.monotonic()
    message, wrong = "", False
    with failing(hub, fault):
        try:
            pull("org/model")
            wrong = True
        except ParadiseError as error:
            message = str(error)
    seconds = time.monotonic() - started
    left = [*hub_cache().rglob("model.safetensors"), *hub_cache().rglob("*.incomplete")]
    healed = pull("org/model").path.read_bytes() == weights
    return {
        "fault": fault, "seconds": seconds, "hangs": seconds > HANGS, "wrong": wrong,
        "left": bool(left), "healed": healed, "one_line": message.isprintable() and message != "",
    }  # fmt: skip


def row(fault: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """All pulls of one fault."""
    counts = {key: sum(each[key] for each in found) for key in ("hangs", "wrong", "left")}
    good = {key: sum(each[key] for each in found) for key in ("healed", "one_line")}
    longest = max(each["seconds"] for each in found)
    return {"fault": fault, "pulls": len(found), "longest": longest, **counts, **good}


if __name__ == "__main__":
    chosen = options(__doc__, pulls=100, seed=0)
    machine()
    order = [FAULTS[number % len(FAULTS)] for number in range(chosen.pulls)]
    random.Random(chosen.seed).shuffle(order)
    found = []
    with TemporaryDirectory() as folder, running() as hub:
        os.environ |= {"HF_HOME": f"{folder}/home", "HF_ENDPOINT": hub.url}
        weights = save_tiny(Path(folder) / "tiny.safetensors").read_bytes()
        hub.files = {"model.safetensors": weights, "config.json": b"{}"}
        for number, fault in enumerate(order):
            # Each begins with an empty cache: what is there would not be asked for.
            os.environ["PARADISE_CACHE"] = f"{folder}/cache-{number}"
            found.append(tried(hub, fault, weights))
            print(f"{number + 1} of {chosen.pulls}: {found[-1]}", flush=True)
    kinds = [fault for fault in FAULTS if fault in order]
    rows = [row(fault, [each for each in found if each["fault"] == fault]) for fault in kinds]
    if chosen.save:
        save(
            "hub_faults",
            what=f"{chosen.pulls} pulls from a Hub that fails, in a random order, each followed by"
            f" one that does not; a pull hangs if it takes more than {HANGS:g} s",
            columns={
                "fault": "{fault}", "pulls": "{pulls}", "longest": "{longest:.1f} s",
                "hangs": "{hangs}", "wrong loads": "{wrong}", "half-written": "{left}",
                "one clear line": "{one_line}", "healed by the next": "{healed}",
            },
            rows=rows,
            data="a fake Hub in the same process, asked by huggingface_hub in another",
            n=chosen.pulls,
            seed=chosen.seed,
        )  # fmt: skip
