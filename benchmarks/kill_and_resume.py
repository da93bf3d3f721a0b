"""kill -9 a training at 20 random moments, go on each time, and compare the weights bit for bit."""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timing import finish, machine, options, report

from paradise_cli.core.storage import load_tensors
from paradise_cli.training.run_folder import RunFolder

PROGRAM = """
import sys
from pathlib import Path
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.train import train
from paradise_cli.training.checkpoint import State
from paradise_cli.training.loop import Reporter

observe = State.observe
def counted(self, terms):
    observe(self, terms)
    print(self.step + 1, flush=True)
State.observe = counted
recipe = load_recipe("digits", ["train.epochs=30", "train.checkpoint_minutes=0.0005"]).recipe
train(recipe, out=Path(sys.argv[1]), device="cpu", report=Reporter())
"""
TOTAL = 30 * (1293 // 64)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(RunFolder(folder).model)[0]


def kill_at(folder: Path, moment: int) -> int:
    """Run until `moment` steps are done, kill, and check every file; the step at which it was
    killed.
    """
    process = start(folder)
    assert process.stdout is not None
    step = next(number for line in process.stdout if (number := int(line)) >= moment)
    process.kill()
    process.wait()
    process.stdout.close()
    assert 0 < step < TOTAL
    for path in folder.rglob("*.safetensors"):
        load_tensors(path)
    return step


if __name__ == "__main__":
    chosen = options(__doc__, kills=20, seed=0)
    machine()
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        start(whole).communicate()
        moments = sorted(random.Random(chosen.seed).sample(range(1, TOTAL - 5), chosen.kills))
        steps = [kill_at(killed, moment) for moment in moments]
        start(killed).communicate()
        a, b = weights(whole), weights(killed)
        same = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        print(f"{len(steps)} kills at steps {steps} of {TOTAL}; no unreadable file seen")
        report("final weights bit-identical to the uninterrupted run", same, 1, at_least=True)
        what = f"kill -9 at {chosen.kills} random moments of a training, resumed each time"
        finish(chosen, what=what, data="digits", seed=chosen.seed)
