"""Does the rate fall with alpha? All shipped recipes of 32 latents or more, at alpha x {0, 1, 10,
100}.

`--images` is a folder with class folders (and train/ test/ if it has them). Every recipe sees the
same pictures at its own size, or at `--largest` where that is smaller, whatever data set it names.
"""

import math
import time
from pathlib import Path
from typing import Any

from results import save
from timing import machine, options

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.machine import choose_device
from paradise_cli.core.randomness import permutation
from paradise_cli.data import DATASETS
from paradise_cli.evaluation.passes import posteriors
from paradise_cli.information.rate import ExactRate, exact_rate
from paradise_cli.recipe.files import shipped_recipes
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.training.alarms import alarms
from paradise_cli.training.loop import Fit, Reporter

FACTORS = (0, 1, 10, 100)
LEAST_LATENTS = 32


class Records(Reporter):
    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def epoch(self, record: dict[str, Any]) -> None:
        self.all.append(record)


def rate_after(recipe: Recipe, images: Path, n: int, largest: int) -> tuple[ExactRate, bool]:
    """Exact rate of the n training pictures, and whether the alarm was raised."""
    channels, size, _ = build_info(recipe).shape
    data = DATASETS["image_folder"](images, size=min(size, largest), channels=channels)
    device, records = choose_device("auto"), Records()
    train = data.train.select(permutation(len(data.train), 0, "examples")[:n])
    model, objective = (
        build_model(recipe, data.info).to(device),
        build_objective(recipe, data.info).to(device),
    )
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    plan = build_plan(recipe, model, device)
    Fit(model, objective, optimizer, plan, device, records).run(train)
    return exact_rate(posteriors(model, train, device)), bool(alarms(records.all))


def judge(
    name: str, images: Path, n: int, epochs: int, batch: int, largest: int
) -> dict[str, object]:
    """Prints how the rates of one recipe go, and gives them as a row of a table."""
    started = time.monotonic()
    shorter = [f"train.epochs={epochs}", f"train.batch_size={batch}", "train.precision=fp32"]
    alpha = load_recipe(name).recipe.objective.alpha
    found = [
        rate_after(
            load_recipe(name, [*shorter, f"objective.alpha={alpha * factor}"]).recipe,
            images,
            n,
            largest,
        )
        for factor in FACTORS
    ]
    first, last = found[0][0], found[-1][0]
    falls = last.nats < first.nats - 3 * math.hypot(first.standard_error, last.standard_error)
    alarm = any(raised for _, raised in found[1:])  # at alpha 0 nothing is expected to act
    verdict = "falls " if falls else "inert, alarm raised" if alarm else "INERT WITHOUT ALARM"
    rates = "  ".join(f"{rate.nats:6.3f} +- {3 * rate.standard_error:.3f}" for rate, _ in found)
    room = first.cap - found[1][0].nats
    print(
        f"{verdict}  {name}: {rates}; {room:.2f} nats below log {n} at its own alpha {alpha:g}"
        f" ({epochs} epochs, {time.monotonic() - started:.0f} s)",
        flush=True,
    )
    nats = {f"nats{factor}": rate.nats for factor, (rate, _) in zip(FACTORS, found, strict=True)}
    return {"recipe": name, "alpha": alpha, "verdict": verdict.strip()} | nats


if __name__ == "__main__":
    chosen = options(__doc__, images=None, n=512, epochs=10, batch=64, largest=224, only="")
    machine()
    rows = []
    for name in shipped_recipes():
        recipe = load_recipe(name).recipe
        if (
            recipe.model.stochastic
            and recipe.model.latent_dim >= LEAST_LATENTS
            and chosen.only in name
        ):
            how = chosen.images, chosen.n, chosen.epochs, chosen.batch, chosen.largest
            rows.append(judge(name, *how))
    if chosen.save:
        columns = {"recipe": "`{recipe}`", "alpha": "{alpha:g}"}
        columns |= {f"alpha x {factor}": f"{{nats{factor}:.3f}}" for factor in FACTORS}
        columns |= {"verdict": "{verdict}"}
        what = f"Exact rate in nats after {chosen.epochs} epochs at multiples of the recipe's alpha"
        data = f"folder {chosen.images.name}, training images"
        save("rate_is_alive", what=what, columns=columns, rows=rows, data=data, n=chosen.n, seed=0)
