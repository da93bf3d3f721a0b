"""The campaign's command line: inputs and kills in order, each recorded, and one table of them."""

import argparse
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from tests.campaign.base import made
from tests.campaign.child import MOST_MEMORY, Outcome, run
from tests.campaign.conditions import bore, possible
from tests.campaign.kills import COMMANDS, Killed, operations, reachable_hub, survived
from tests.campaign.kinds import KINDS, Kind
from tests.campaign.record import Record
from tests.campaign.settled import settle


def main() -> None:
    """Run what is not on record yet, and print the table; exit code 1 for any fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="hostile inputs of all kinds")
    parser.add_argument("--kills", type=int, default=100, help="kills at random file operations")
    parser.add_argument("--every-kill", action="store_true", help="before each file operation too")
    parser.add_argument(
        "--conditions",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="full disks, closed streams and the like, each for every command",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind, or one command that is killed")
    parser.add_argument("--out", type=Path, default=Path("campaign"), help="record and base")
    given = parser.parse_args()
    out = given.out.resolve()
    settle(out)
    base, record = made(out), Record(out / "record.jsonl")
    for number in range(given.inputs):
        kind = KINDS[number % len(KINDS)]
        if given.only in (None, kind.name):
            case = [kind.name, given.seed, number]
            record.keep(case, partial(_tried, kind, base, out, given.seed, number))
    with reachable_hub(base):
        _kills(record, base, out, given)
    record.show()
    raise SystemExit(1 if record.faults() else 0)


def _tried(kind: Kind, base: Path, out: Path, seed: int, number: int) -> dict[str, Any]:
    place = out / "case" / "place"
    shutil.rmtree(place.parent, ignore_errors=True)
    shutil.copytree(base, place)
    draw = random.Random(f"{kind.name} {seed} {number}")
    arguments = kind.make(place, draw)
    outcome = run(arguments, place)
    verdict, why = _judged(outcome, kind, place, base)
    return {
        "verdict": verdict,
        "why": why,
        "arguments": [each[:200] for each in arguments],
        "code": outcome.code,
        "seconds": round(outcome.seconds, 2),
        "memory": outcome.memory,
    }


def _judged(outcome: Outcome, kind: Kind, place: Path, base: Path) -> tuple[str, str]:
    said = outcome.stderr
    if outcome.hung:
        return "hang", said[-200:]
    if "Traceback" in said or "fault of PARADISE" in said or outcome.code not in (0, 1, 2):
        return "traceback", said[-400:]
    if outcome.memory > MOST_MEMORY:
        return "memory", f"{outcome.memory / 2**20:,.0f} MiB"
    beside = {path.name for path in place.parent.iterdir()} - {"place", "stdout", "stderr"}
    if beside:
        return "outside", ", ".join(sorted(beside))
    wrong = kind.wrong(place, base, outcome.code)
    if wrong:
        return "wrong", wrong
    if outcome.code == 0:
        return "ended well", ""
    # Files that were skipped are a failure with a result; everything else is one message.
    messages = said.count("error: ") + said.count("Error: ") + said.count("cannot be read")
    return ("one message", "") if messages else ("silent", said[-200:])


def _whole(out: Path, base: Path, chosen: Sequence[Killed]) -> dict[str, int]:
    """What each command leaves where nothing happens to it, and how many changes it makes."""
    place, counts = out / "case" / "place", {}
    for command in chosen:
        counts[command.name] = operations(command, base, place)
        whole = out / "whole" / command.name
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(place, whole)
    return counts


def _kills(record: Record, base: Path, out: Path, given: argparse.Namespace) -> None:
    chosen = [each for each in COMMANDS if given.only in (None, each.name)]
    if not chosen or not (given.kills or given.every_kill or given.conditions):
        return
    place, draw = out / "case" / "place", random.Random(f"kills {given.seed}")
    counts = _whole(out, base, chosen)
    every = [(each, at) for each in chosen for at in range(1, counts[each.name] + 1)]
    moments: list[tuple[Killed, int]] = []
    # So many different ones, of each command about as many.
    while len(moments) < min(given.kills, len(every)):
        command = draw.choice(chosen)
        moment = command, draw.randint(1, counts[command.name])
        moments += [moment] if moment not in moments else []
    moments += every if given.every_kill else []
    for command, at in moments:
        look = partial(survived, command, base, place, out / "whole" / command.name, at)
        record.keep([f"kill {command.name}", at], partial(_looked, look))
    for condition, command in product(possible() if given.conditions else (), chosen):
        look = partial(bore, command, condition, base, place, out / "whole" / command.name)
        record.keep([condition.name, command.name], partial(_looked, look))


def _looked(look: Callable[[], str]) -> dict[str, Any]:
    why = look()
    return {"verdict": "wrong" if why else "ended well", "why": why}


if __name__ == "__main__":
    main()
