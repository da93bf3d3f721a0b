"""Training in two processes beside one: images a second, bytes sent, and the memory of the rate.

    python benchmarks/processes.py --save

Two processes of one thread each against one of two threads, ResNet-20, 128 images a batch; then
what a step sends beside what it has to on paper, and what a rate over 4,096 images takes of memory
in 1, 2 and 4 processes. Each number is a process's own, in new processes.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import closing

import torch
from timing import finish, machine, options, peak_bytes, report, resident_bytes
from torch import distributed

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.processes import join, keep_freed_memory, rank, world_size
from paradise_cli.core.shares import Share
from paradise_cli.data import synthetic
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.objective.rates import RATES
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.forecast import FLOAT, bytes_sent, shared_numbers
from paradise_cli.training.loop import Fit, Reporter

RECIPE, BATCH = "cifar10_rn20_paradise", 128
IMAGES, LATENTS = 4_096, 640  # of the rate whose memory is taken
CPU = torch.device("cpu")


def fit(steps: int) -> Fit:
    """A training of so many steps on random images, in fp32."""
    changes = ["train.epochs=1", "train.precision=fp32", f"train.batch_size={BATCH}"]
    recipe = load_recipe(RECIPE, changes).recipe
    info = build_info(recipe)
    model, objective = build_model(recipe, info), build_objective(recipe, info)
    optimizer, plan = build_optimizer(recipe, model.parameters()), build_plan(recipe, model, CPU)
    return Fit(model, objective, optimizer, plan, CPU, Reporter(), rank=rank(), world=world_size())


def speed(steps: int) -> float:
    """Seconds of a training of so many steps, after a short one."""
    info = build_info(load_recipe(RECIPE).recipe)
    fit(3).run(synthetic(info, 3 * BATCH).train)
    work, images = fit(steps), synthetic(info, steps * BATCH).train
    started = time.perf_counter()
    work.run(images)
    return time.perf_counter() - started


def sent(steps: int) -> tuple[float, float]:
    """Bytes that a step hands to others, counted and as computed on paper."""
    counted = 0
    reduce, gather = distributed.all_reduce, distributed.all_gather

    def reducing(tensor: torch.Tensor, *more: object) -> object:
        nonlocal counted
        counted += tensor.nbytes
        return reduce(tensor, *more)

    def gathering(found: list[torch.Tensor], tensor: torch.Tensor) -> object:
        nonlocal counted
        counted += tensor.nbytes
        return gather(found, tensor)

    distributed.all_reduce, distributed.all_gather = reducing, gathering
    work = fit(steps)
    recipe = load_recipe(RECIPE).recipe
    work.run(synthetic(build_info(recipe), steps * BATCH).train)
    # Between two, what is handed over goes round the ring as it is.
    paper = bytes_sent(shared_numbers(recipe), BATCH, world_size())
    # Terms in float64; the count of labels; a number of 8 bytes for whether to stop, and at the end
    # of the epoch once more.
    terms = ["distortion", "loss", "rate", "sigma", "abs_mu", "distortion/task"]
    small = 8 * (len(terms) + 1 + 1 + 1 / steps)
    return counted / steps, paper + small


def memory() -> float:
    """Bytes at the peak of a rate and its gradient, above what its own rows take."""
    share = Share(IMAGES, rank(), world_size())
    draw = torch.Generator().manual_seed(0)
    mu = torch.randn(IMAGES, LATENTS, generator=draw)[share.rows].clone().requires_grad_()
    sigma = (torch.rand(IMAGES, LATENTS, generator=draw) + 0.5)[share.rows].clone()
    sigma.requires_grad_()
    z = mu + sigma * torch.randn(share.size, LATENTS, generator=draw)
    q = RATES["batch"](LATENTS)
    before = resident_bytes()
    *posterior, whole = share.gathered(mu, sigma, z)
    value = q.of_rows(DiagonalGaussian(*posterior), whole, share.rows)
    share.mean(value.loss).backward()
    return peak_bytes() - before


def ranks(world: int, threads: int, *words: str) -> list[float]:
    """What the main one of so many processes prints of these words."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "rank", *words],
            stdout=subprocess.PIPE, text=True,
            env=os.environ | given | {"RANK": str(number), "OMP_NUM_THREADS": str(threads)},
        )
        for number in range(world)
    ]  # fmt: skip
    said = [each.communicate()[0] for each in started]
    assert not any(each.returncode for each in started), "a process failed"
    return [float(number) for number in said[0].split()]


def as_rank(what: str, steps: int) -> None:
    """What one process does; the main one prints it."""
    keep_freed_memory()
    if world_size() > 1:
        join()
    found = {"speed": lambda: [speed(steps)], "sent": lambda: sent(steps),
             "memory": lambda: [memory()]}[what]()  # fmt: skip
    if rank() == 0:
        print(*found)


def main() -> None:
    chosen = options(__doc__, pairs=5, steps=30)
    machine()
    steps = str(chosen.steps)
    ratios = []
    for _ in range(chosen.pairs):
        (one,), (two,) = ranks(1, 2, "speed", steps), ranks(2, 1, "speed", steps)
        ratios.append(one / two)
    print(f"ResNet-20, {BATCH} images a batch: {chosen.steps * BATCH / two:.0f} images/s in two")
    speed_claim = "images/s of two processes of a thread, of one process of two"
    report(speed_claim, statistics.median(ratios), 0.9, at_least=True)
    counted, paper = ranks(2, 1, "sent", steps)
    print(f"a step hands {counted:,.0f} bytes to the other process")
    report("bytes sent, of those on paper", counted / paper, 1.001, at_least=False)
    gathered = 3 * FLOAT * IMAGES * LATENTS
    (alone,) = ranks(1, 1, "memory", steps)
    for world in (2, 4):
        (found,) = ranks(world, 1, "memory", steps)
        print(f"rate of {IMAGES:,}, {world} processes: {found / 2**20:.0f} MiB of each")
        claim = f"peak of the rate in {world} processes less in one, of the gathered posteriors"
        report(claim, (found - alone) / gathered, 1.0, at_least=False)
    finish(chosen, what="One training in several processes on one machine", data="random images")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        as_rank(sys.argv[2], int(sys.argv[3]))
    else:
        main()
