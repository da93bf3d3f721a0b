"""What the host takes for a training step, beside an older build, with hardly any network.

    git worktree add /tmp/before af353a9
    python benchmarks/host_time.py --before /tmp/before

Eight images of the digits recipe, with eight hidden units, on one thread. Processor seconds, each
build in new processes, in turn; the least of seven rounds of a hundred steps is taken, as whatever
disturbs a step adds to it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.data import Batch
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.step import Step

IMAGES, ROUNDS, STEPS = 8, 7, 100
TINY = ["train.precision=fp32", "model.backbone={name: mlp, hidden: [8]}"]
COMPILED = "train.compile=true"


def step_seconds(overrides: Sequence[str]) -> float:
    """Processor seconds of a step, in this process's build."""
    torch.set_num_threads(1)
    recipe = load_recipe("digits", [*TINY, *overrides]).recipe
    info, device = build_info(recipe), torch.device("cpu")
    model, objective = build_model(recipe, info), build_objective(recipe, info)
    optimizer = build_optimizer(recipe, model.parameters())
    step = Step(model, objective, optimizer, build_plan(recipe, model, device), device)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, *info.shape, generator=draw)
    labels = torch.randint(0, 10, (IMAGES, 1), generator=draw)
    batch = Batch(images, labels, torch.arange(IMAGES))
    found = []
    # The first round compiles, if anything does, and warms up.
    for number in range(ROUNDS + 1):
        started = time.process_time()
        for at in range(STEPS):
            step(batch, number * STEPS + at)
        found.append((time.process_time() - started) / STEPS)
    return min(found[1:])


def of_build(folder: Path, *overrides: str) -> float:
    """The same of the build in a checkout."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "step", *overrides]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    return float(done.stdout.split()[-1])


def main() -> None:
    # Here: an older build lacks what these import.
    from timing import finish, machine, median, options, ratio, report

    chosen = options(__doc__, before=None, pairs=5)
    machine()
    now = Path(__file__).resolve().parents[1]
    before = chosen.before.resolve()
    timed = {
        name: [(of_build(now, *more), of_build(before)) for _ in range(chosen.pairs)]
        for name, more in {"as by default": (), "compiled": (COMPILED,)}.items()
    }
    for name, found in timed.items():
        micro = [1e6 * median(found, side) for side in (0, 1)]
        print(f"{name}: {micro[0]:.0f} microseconds a step, before {micro[1]:.0f}", flush=True)
        report(f"a step, {name}, of one before", ratio(found), 1 / 3, at_least=False)
    finish(chosen, what="What the host takes for a training step", data="random images")


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        print(step_seconds(sys.argv[2:]))
    else:
        main()
