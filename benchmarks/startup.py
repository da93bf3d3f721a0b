"""`paradise --help` against `python -c "import typer"`."""

import subprocess
import sys

from timing import finish, machine, median, options, pairs, ratio, report


def process(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    chosen = options(__doc__, pairs=9)
    machine()
    timed = pairs(
        lambda: process("-m", "paradise_cli", "--help"),
        lambda: process("-c", "import typer"),
        chosen.pairs,
    )
    print(f"help {1000 * median(timed, 0):.0f} ms, import typer {1000 * median(timed, 1):.0f} ms")
    report("help, times import typer", ratio(timed), 3, at_least=False)
    finish(chosen, what="Start of the command line, wall time", data="none", seed=None)
