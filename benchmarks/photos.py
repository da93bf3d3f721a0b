"""Accuracy against bits behind a frozen backbone, beside logistic regression on its features.

    python benchmarks/photos.py FOLDER --label cifar10-jpeg75 --set data.short_side=224 --save

FOLDER has train/ and test/ with class folders. The recipe `photos` is trained at each alpha,
without a validation split; the regression's penalty is chosen by cross-validation on training
images. Both are judged on the same test images.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import save
from sklearn.linear_model import LogisticRegressionCV

from paradise_cli import library
from paradise_cli.build import build_data, build_model
from paradise_cli.core.proportions import NORMAL_95, Proportion
from paradise_cli.core.units import BITS
from paradise_cli.data import Split
from paradise_cli.inference.features import behind_backbone, featured
from paradise_cli.inference.loading import load
from paradise_cli.recipe.schema import Recipe, load_recipe

ALPHAS = (0.003, 0.01, 0.03, 0.1, 0.3)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
Features = tuple[torch.Tensor, NDArray[np.int64]]


def features(recipe: Recipe, split: Split) -> Features:
    """Plain features [N, F, 1, 1] and labels [N]."""
    info = build_data(recipe).info
    kept = featured(split, build_model(recipe, info), info)
    (rows,) = kept.fetch(torch.arange(len(kept)), len(kept), (), False)
    return rows, kept.labels[:, 0].numpy()


def plain(train: Features, test: Features) -> NDArray[np.bool_]:
    """Which test images logistic regression on the features names rightly."""
    regression = LogisticRegressionCV(
        Cs=list(PENALTIES), cv=3, max_iter=500, l1_ratios=(0,), scoring="accuracy",
        use_legacy_attributes=False,
    )  # fmt: skip
    regression.fit(train[0].flatten(1).numpy(), train[1])
    right: NDArray[np.bool_] = regression.predict(test[0].flatten(1).numpy()) == test[1]
    return right


def head(recipe: Recipe, test: Features, folder: Path) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Train the head: its bits and seconds, and which test images it names rightly."""
    started = time.perf_counter()
    found = library.train(recipe, out=folder).evaluation
    seconds = time.perf_counter() - started
    assert found is not None and found.rate is not None
    ends = found.rate.population
    loaded = load(folder)
    model, _ = behind_backbone(loaded.model, loaded.info)
    with torch.no_grad():
        (logits,) = model.decode(model.encode(test[0]).mu).values()
    bits = {"bits_low": ends.lower * BITS, "bits_high": ends.upper * BITS}
    return bits | {"seconds": seconds}, logits.argmax(1).numpy() == test[1]


def scored(right: NDArray[np.bool_], beside: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy, and how far it is from the other's on the same images, in points."""
    share = Proportion.of(int(right.sum()), len(right))
    apart = 100 * (right.astype(float) - beside)
    return {
        "accuracy": share.value, "low": share.low, "high": share.high,
        "apart": float(apart.mean()),
        "half": NORMAL_95 * float(apart.std(ddof=1)) / math.sqrt(len(apart)),
    }  # fmt: skip


def main() -> None:
    """Print a line for each alpha, and save them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--label", required=True, help="what the data are called")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    own = [f"data.root={asked.folder}", f"data.label={asked.label}", "data.validation=0.0"]
    recipe = load_recipe("photos", [*own, *asked.set]).recipe
    data = build_data(recipe)
    assert data.test is not None
    train, test = features(recipe, data.train), features(recipe, data.test)
    beside = plain(train, test)
    rows = [{"model": "logistic regression on 1,280 features"} | scored(beside, beside)]
    with tempfile.TemporaryDirectory() as folder:
        for alpha in ALPHAS:
            chosen = load_recipe("photos", [*own, *asked.set, f"objective.alpha={alpha}"]).recipe
            measured, right = head(chosen, test, Path(folder) / f"{alpha}")
            rows.append({"model": f"alpha {alpha:g}"} | scored(right, beside) | measured)
            print(rows[-1], flush=True)
    if asked.save:
        save(
            "photos", rows=rows, data=f"{asked.label}, test", n=len(beside), seed=0,
            what=f"A stochastic head on a frozen EfficientNet-Lite0, {len(train[1]):,} training"
            " images", interval="Wilson 95%; differences: paired, 95%",
            command=f"python benchmarks/photos.py FOLDER --label {asked.label} --set"
            " data.short_side=224 --save",
            columns={"": "{model}", "accuracy": "{accuracy:.2%} ({low:.2%} to {high:.2%})",
                     "points from the regression, same images": "{apart:+.2f} ± {half:.2f}",
                     "bits: I(X;Z) lies between": "{bits_low:.1f} and {bits_high:.1f}",
                     "seconds, training and evaluation": "{seconds:.0f}"},
            note="Ends of the rate hold with three standard errors to spare; features were kept.",
        )  # fmt: skip


if __name__ == "__main__":
    main()
