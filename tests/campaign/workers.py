"""Encoding in parts by several processes that are killed again and again, against one in peace."""

import argparse
import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.campaign.child import run, started
from tests.campaign.settled import settle
from tests.tiny_model import save_images, save_tiny


def main() -> None:
    """Round after round until there were enough kills; exit code 1 for any other result."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.workers", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("campaign-workers"))
    given = parser.parse_args()
    out = given.out.resolve()
    settle(out)
    place = out / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    save_tiny(place / "tiny.safetensors")
    save_images(place / "photos", given.images)
    words = ["encode", "photos", "--model", "tiny.safetensors", "--device", "cpu",
             "--parts", str(-(-given.images // given.parts)), "--out"]  # fmt: skip
    alone = run([*words, "one/z.npy"], place)
    assert alone.code == 0, alone.stderr
    draw, left, rounds = random.Random(given.seed), given.kills, 0
    while left:
        shutil.rmtree(place / "two", ignore_errors=True)
        left -= _round([*words, "two/z.npy"], place, given.workers, left, alone.seconds, draw)
        rounds += 1
        _compare(place / "one", place / "two")
    print(f"{given.images:,} images, {given.parts} parts, {given.workers} workers,"
          f" {given.kills} kills in {rounds} rounds: the same bytes")  # fmt: skip


def _round(
    words: list[str], place: Path, workers: int, most: int, seconds: float, draw: random.Random
) -> int:
    """Kill one after the other while any works, a new one in place of each; gives how many."""
    streams = [place.parent / name for name in ("stdout", "stderr")]
    live = [started(words, place, streams) for _ in range(workers)]
    kills = 0
    while live:
        time.sleep(draw.uniform(0, seconds / 8))
        ended = [child for child in live if _has_ended(child)]
        live = [child for child in live if child not in ended]
        if live and not ended and kills < most:
            victim = live.pop(draw.randrange(len(live)))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            live.append(started(words, place, streams))
            kills += 1
    return kills


def _has_ended(child: int) -> bool:
    found, status = os.waitpid(child, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status) if found else 0
    if code:
        raise SystemExit(f"a worker ended with exit code {code}")
    return bool(found)


def _compare(one: Path, two: Path) -> None:
    """Raise where files differ, or unfinished ones were left; origins know the time of a file."""
    files = [
        {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
        for folder in (one, two)
    ]
    left = [path.name for path in two.iterdir() if path.suffix in (".tmp", ".claims")]
    if left or files[0] != files[1]:
        raise SystemExit(f"other files, or left behind: {left}")


if __name__ == "__main__":
    main()
