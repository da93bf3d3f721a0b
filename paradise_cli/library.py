"""Training and measuring from Python: what the commands do, as plain functions."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike
from torch import Tensor

from paradise_cli.core.errors import UsageError
from paradise_cli.core.given import path_given, plain_array, text_given
from paradise_cli.core.ranges import MOST_DRAWS, whole
from paradise_cli.evaluation.evaluate import Evaluation, measure_loaded
from paradise_cli.evaluation.evaluation_data import split_for
from paradise_cli.evaluation.posterior_files import classes_of, posterior_of
from paradise_cli.evaluation.posterior_report import PosteriorReport, report
from paradise_cli.inference.answers import SCALE_TRIL
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.runs.result import Trained
from paradise_cli.runs.train import train as train_recipe
from paradise_cli.training.loop import Reporter


def train(
    recipe: str | Path | Recipe,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "auto",
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> Trained:
    """Train a recipe in its run folder; the same call again goes on where it stopped.

    `recipe` is a file, the name of a shipped recipe, or a `Recipe`; `overrides` are written as for
    `--set`: `["train.epochs=3"]`. The folder is `out`, else `runs/<name>`; `fresh` takes a new one
    beside it. Silent, but for a `reporter`. Raises UsageError for a recipe with mistakes,
    ParadiseError for a folder in use or missing data, Interrupted after a signal.
    """
    # A Recipe is checked and frozen: what it should say must be said before.
    if not isinstance(recipe, Recipe):
        name = text_given(recipe, "recipe", "a file, the name of a shipped recipe, or a Recipe")
        recipe = load_recipe(name, overrides).recipe
    elif overrides:
        raise UsageError("overrides are for a recipe given by its file or name, not for a Recipe")
    folder = None if out is None else path_given(out, "out")
    return train_recipe(
        recipe, out=folder, device=device, fresh=fresh, report=reporter or Reporter()
    )


def evaluate(
    model: str | Path | LoadedModel,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    draws: int = 1,
) -> Evaluation:
    """Accuracy, calibration, distortion and rate of a model on a split, with intervals.

    `model` is a run folder, a weights file, a name from the zoo, or what `load` gives, which is
    measured where it is. `data` and `overrides` choose other data than its recipe's, as `--data`
    and `--set` do; without a `split` it is the one that `data` names, or test. Rates and
    cross-entropies are in nats; the noise in z is a function of `seed`, `draws` is how many z the
    exact rate takes for each image. Warns of what to know about the data. Raises UsageError or
    ParadiseError for a model or data that cannot be used.
    """
    # What was loaded to one device stays there: moving it would change it under its owner's hands.
    loaded = model if isinstance(model, LoadedModel) else load(model, device)
    name = None if data is None else text_given(data, "data", "a folder, an .npz or a data set")
    part = None if split is None else text_given(split, "split", "as 'test'")
    draws = whole(draws, "draws", 1, MOST_DRAWS)
    opened = split_for(loaded, part, name, overrides)
    # What the command prints as notes: here nobody reads stderr line by line.
    for line in opened.notes:
        warnings.warn(line, stacklevel=2)
    return measure_loaded(loaded, opened, seed=seed, draws=draws).evaluation


def rate(
    mu: ArrayLike | Tensor,
    *,
    log_variance: ArrayLike | Tensor | None = None,
    sigma: ArrayLike | Tensor | None = None,
    scale_tril: ArrayLike | Tensor | None = None,
    labels: ArrayLike | Tensor | None = None,
    seed: int = 0,
    batch_size: int = 128,
    draws: int = 1,
) -> PosteriorReport:
    """The rate of any encoder with Gaussian posteriors as an interval, in nats.

    `mu` and one of `log_variance` (log sigma^2) and `sigma` are [N, latent_dim], of examples that
    the encoder was not trained on; these two are named, as one read for the other gives a plausible
    and wrong rate. Full covariances L L^T are given as `scale_tril` in place of these: L, lower
    triangular, [N, latent_dim, latent_dim]. `labels` [N], integers (negative: unknown) or text, add
    D + R - H(Y). `draws` z for each point go into the exact rate, `batch_size` into the in-batch
    bound. Source: method.md 2. Raises UsageError for arrays that are no posteriors.
    """
    # By keyword alone: in a second place standard deviations pass for log variances in silence.
    widths = {"log_variance": log_variance, "sigma": sigma, SCALE_TRIL: scale_tril}
    given = {name: plain_array(each, name) for name, each in widths.items() if each is not None}
    if len(given) != 1:
        raise UsageError(f"rate needs one of {'=..., '.join(widths)}=..., by its name")
    ((name, width),) = given.items()
    means = plain_array(mu, "mu")
    posterior = posterior_of(means, width, "mu", name, name)
    classes = None
    if labels is not None:
        classes = classes_of(plain_array(labels, "labels"), len(posterior.mu), "labels")
    return report(posterior, classes, seed=seed, batch_size=batch_size, draws=draws)
