"""The paper's mechanism: what matching random views does to posteriors and costs, by strength.

    python benchmarks/matching_strength.py --seeds 3 --match l1=5 l1=20 symmetric_kl=1

The recipe `fashion_mnist_robust_pm` is trained with each distance, gamma and seed in fp32, without
a choice of the best weights by an attack: the last averaged ones are measured, on all test images.
`--epochs` trains all, those without matching too, for longer than the recipe, and saves apart.
"""

import json
import statistics
from argparse import Namespace
from hashlib import sha256
from typing import Any

import torch
from results import save
from robust_runs import begin, data_root, parser, trained
from robust_tables import paired

from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.reproduction.posterior_shift import farthest, random_corner, shifts
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.robustness.examples import open_examples

RECIPE = "fashion_mnist_robust_pm"
NONE = "nothing"
EPS = 0.1  # of its views
SHIFTED = 1_000  # images whose posteriors are looked at: the worst of each is searched for
CHUNK = 500

Measured = dict[str, Any]


def recipe_of(match: str, seed: int, asked: Namespace) -> Recipe:
    """The recipe with this distance and gamma, or without matching."""
    distance, _, gamma = match.partition("=")
    matching = "objective.matching=null"
    if match != NONE:
        matching = f"objective.matching={{distance: {distance}, gamma: {gamma}}}"
    changes = [matching, "train.validate=null", "train.precision=fp32", f"train.seed={seed}"]
    longer = [f"train.epochs={asked.epochs}"] if asked.epochs else []
    return load_recipe(RECIPE, [*changes, *longer, *data_root(asked)]).recipe


def measured(match: str, seed: int, asked: Namespace) -> Measured:
    """Which test images the trained model names rightly, and how far their posteriors move."""
    recipe = recipe_of(match, seed, asked)
    digest = sha256(json.dumps(recipe.resolved(), sort_keys=True, default=str).encode()).hexdigest()
    run = asked.runs / RECIPE / digest[:12]
    result = trained(recipe, run, f"{match}, seed {seed}", asked.device)
    (file,) = (each["file"] for each in result["weights"] if each["weights"] == "last averaged")
    target = open_classifier(str(run / file), device=asked.device)
    examples = open_examples(target, every=True, overrides=data_root(asked))
    images, labels = examples.images, examples.labels
    with torch.no_grad():
        named = torch.cat([target.function(part).argmax(1).cpu() for part in images.split(CHUNK)])
    assert target.loaded is not None and target.head is not None, "a run folder is a model"
    some = slice(0, SHIFTED)
    moved = shifts(
        target.loaded, target.head, images[some], labels[some], random_corner(EPS), farthest(EPS)
    )
    random, worst = (Mean.of(each).value for each in moved)
    return {
        "right": (named == labels).int().tolist(), "random": random, "worst": worst,
        "data": result["data"],
    }  # fmt: skip


def row_of(match: str, found: list[Measured], plain: list[Measured]) -> Measured:
    """All seeds of one matching beside those without."""
    gains = [
        [a - b for a, b in zip(ours["right"], theirs["right"], strict=True)]
        for ours, theirs in zip(found, plain, strict=True)
    ]
    less, error = paired(gains)

    def fall(name: str) -> float:
        return statistics.fmean(b[name] / a[name] for a, b in zip(found, plain, strict=True))

    return {
        "match": match.replace("=", ", gamma "),
        "accuracy": statistics.fmean(statistics.fmean(each["right"]) for each in found),
        "less": 100 * less,
        "error": 100 * error,
        "random": statistics.fmean(each["random"] for each in found),
        "random_falls": fall("random"),
        "worst": statistics.fmean(each["worst"] for each in found),
        "worst_falls": fall("worst"),
    }


def main() -> None:
    options = parser(__doc__, runs="runs/matching_strength")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, help="of every training")
    options.add_argument("--match", nargs="+", required=True, metavar="DISTANCE=GAMMA")
    asked = options.parse_args()
    begin(asked)
    found = {
        match: [measured(match, seed, asked) for seed in range(asked.seeds)]
        for match in (NONE, *asked.match)
    }
    plain = found[NONE]
    save(
        "matching_strength" + (f"_{asked.epochs}_epochs" if asked.epochs else ""),
        what="Matching the posteriors of two random corners of the ball of 0.1"
        + (f", {asked.epochs} epochs" if asked.epochs else ""),
        data=f"{plain[0]['data']}, test",
        n=f"{len(plain[0]['right']):,} (shifts: {SHIFTED:,})",
        interval="standard error, over images and seeds",
        seed=", ".join(map(str, range(asked.seeds))),
        columns={
            "matched": "{match}",
            "natural accuracy": "{accuracy:.2%}",
            "less that without, points": "{less:+.2f} ± {error:.2f}",
            "random shift": "{random:.3g}",
            "falls by": "{random_falls:.2g} times",
            "worst shift": "{worst:.3g}",
            "worst falls by": "{worst_falls:.2g} times",
        },
        rows=[row_of(match, each, plain) for match, each in found.items()],
        note="Shift: L1 distance of p(z|x') from p(z|x) in deviations of mu over images; x' is a"
        " random corner of the ball, or what 10 steps on that distance find. Means over seeds.",
    )


if __name__ == "__main__":
    main()
