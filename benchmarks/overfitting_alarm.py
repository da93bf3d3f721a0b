"""Is catastrophic overfitting told in its epoch, and only there? Trainings by FGSM and by N-FGSM.

What has happened is decided without the alarm's help: by PGD-50, written out here, on test images,
where the alarm looks at validation images. A training has overfitted in the first epoch after which
this accuracy is below half of its best so far, and at least 0.1 lower; it then ends. `--curves` is
a folder where each run is kept, so that the same command goes on where it stopped.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from results import save
from timing import machine, options
from torch import Tensor
from torch.nn.functional import nll_loss

from paradise_cli.build import build_data, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.errors import Interrupted
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.data.base import Split, batches
from paradise_cli.evaluation.probe import probe_of
from paradise_cli.models import StochasticEncoder
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.training.alarms import alarms
from paradise_cli.training.loop import Fit, Reporter, Validation

EPS, STEPS = 0.2, 50
VIEWS = {
    "FGSM": f"{{name: adversarial, eps: {EPS}, start: image}}",
    "N-FGSM": f"{{name: adversarial, eps: {EPS}, start: uniform, start_size: {2 * EPS},"
    " project: false}",
}
RECIPE = [
    "model.backbone={name: conv, width: 8}",
    "model.latent_dim=32",
    "model.stochastic=false",
    "objective.alpha=0",
    # A high rate that does not fall: FGSM then overfits within a few epochs.
    "optim={name: sgd, lr: 0.2, schedule: constant}",
    "train.batch_size=64",
    "train.precision=fp32",
]
FALLEN, CLEAR = 0.5, 0.1
CPU = torch.device("cpu")


def truth(model: StochasticEncoder, images: Tensor, labels: Tensor) -> float:
    """Accuracy under PGD-50 on cross-entropy from a random start, steps of eps / 10."""
    answer = model.classifier()
    start = torch.rand(images.shape, generator=generator("start"))
    x = (images + EPS * (2 * start - 1)).clamp(0, 1)
    for _ in range(STEPS):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(nll_loss(answer(x), labels, reduction="sum"), [x])
        x = (x.detach() + EPS / 10 * slope.sign()).clamp(images - EPS, images + EPS).clamp(0, 1)
    return float((answer(x).argmax(1) == labels).double().mean())


class Records(Reporter):
    """Each epoch's record; what is measured after it is its probe."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def epoch(self, record: dict[str, Any]) -> None:
        measured = record["validation"]
        record["truth"] = measured.pop("truth")
        record["probe"] = measured
        self.all.append(record)


def curve(method: str, seed: int, epochs: int, images: int, tested: int) -> list[dict[str, Any]]:
    """The records of one training."""
    torch.set_num_threads(1)
    overrides = [*RECIPE, f"views=[{VIEWS[method]}]", f"train.epochs={epochs}"]
    overrides += [f"train.seed={seed}"]
    recipe = load_recipe("fashion_mnist_supervised", overrides).recipe
    data = build_data(recipe)
    assert data.validation is not None and data.test is not None
    train = data.train.select(permutation(len(data.train), "images")[:images])
    test = _batch(data.test, tested)
    model, objective = build_model(recipe, data.info), build_objective(recipe, data.info)
    probe = probe_of(model, objective, data.validation, CPU, EPS)

    def measure() -> Validation:
        return Validation(probe() | {"truth": truth(model, *test)}, {})

    records = Records()
    optimizer = build_optimizer(recipe, model.parameters(), objective.parameters())
    plan = build_plan(recipe, model, CPU)
    fit = Fit(model, objective, optimizer, plan, CPU, records, validate=measure)
    fit.stop = lambda: happened(records.all) is not None
    with suppress(Interrupted):
        fit.run(train)
    return records.all


def _batch(split: Split, count: int) -> tuple[Tensor, Tensor]:
    order = permutation(len(split), "tested")[:count]
    (batch,) = batches(split, order=order, batch_size=count, device=CPU)
    return batch.images, batch.labels[:, 0]


def happened(records: list[dict[str, Any]]) -> int | None:
    """The first epoch in which the training had overfitted, by its own measure."""
    best = 0.0
    for record in records:
        found = record["truth"]
        if found < FALLEN * best and best - found >= CLEAR:
            return int(record["epoch"])
        best = max(best, found)
    return None


def told(records: list[dict[str, Any]]) -> int | None:
    """The first epoch for which the alarm was raised."""
    raised = alarms(records)
    epochs = [alarm.epoch for alarm in raised if alarm.kind == "catastrophic_overfitting"]
    return min(epochs, default=None)


def row(method: str, seed: int, records: list[dict[str, Any]]) -> dict[str, Any]:
    """One training as a row of the table."""
    event, alarm = happened(records), told(records)
    found: dict[str, Any] = {"method": method, "seed": seed, "event": event or "-"}
    found |= {"alarm": alarm or "-", "right": "yes" if event == alarm else "no"}
    shown = records[-1] if event is None else records[event - 1]
    earlier = [record for record in records if record["epoch"] < shown["epoch"]]
    found |= {"before": max(record["truth"] for record in earlier), "truth": shown["truth"]}
    found["one_step"] = shown["probe"]["accuracy/one_step"]
    found["several"] = shown["probe"]["accuracy/multi_step"]
    return found


def _run(job: tuple[str, int, int, int, int, Path]) -> tuple[str, int, list[dict[str, Any]]]:
    method, seed, epochs, images, tested, folder = job
    path = folder / f"{method}-{seed}.json"
    if not path.exists():
        records = curve(method, seed, epochs, images, tested)
        path.write_text(json.dumps(records), encoding="utf-8")
    return method, seed, json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    chosen = options(
        __doc__, fgsm=11, n_fgsm=10, epochs=8, images=9600, tested=150, jobs=2,
        curves="overfitting_curves",
    )  # fmt: skip
    machine()
    folder = Path(chosen.curves)
    folder.mkdir(exist_ok=True)
    sizes = chosen.epochs, chosen.images, chosen.tested, folder
    seeds = {"FGSM": chosen.fgsm, "N-FGSM": chosen.n_fgsm}
    jobs = [(method, seed, *sizes) for method in VIEWS for seed in range(seeds[method])]
    rows = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for found in pool.map(_run, jobs):
            rows.append(row(*found))
            print(rows[-1], flush=True)
    rows.sort(key=lambda each: (each["method"], each["seed"]))
    right = sum(each["right"] == "yes" for each in rows)
    print(f"{right} of {len(rows)} trainings told rightly")
    if chosen.save:
        save(
            "overfitting_alarm",
            what=f"Catastrophic overfitting at eps {EPS} in up to {chosen.epochs} epochs of"
            f" {chosen.images:,} images: when it happened, by PGD-50 on test images, and when the"
            " alarm was raised, by validation images",
            columns={
                "training": "{method}, seed {seed}",
                "overfitted in epoch": "{event}",
                "alarm in epoch": "{alarm}",
                "the same": "{right}",
                "PGD-50, best before": "{before:.1%}",
                "PGD-50 then": "{truth:.1%}",
                "one step then": "{one_step:.1%}",
                "PGD-10 then": "{several:.1%}",
            },
            rows=rows,
            data="fashion-mnist, test and validation",
            n=f"{chosen.tested} test images, 256 validation images",
            seed="one of each training, as shown",
            note="Of a training that did not overfit the last epoch is shown. The limits of both"
            " measures were last changed after seeds 0 to 3.",
        )
