"""Certified accuracy after training with Gaussian noise: augmentation, consistency and matching.

    python benchmarks/certificates.py --set fashion_mnist --seeds 3

The methods are the shipped recipes `SET_robust_gaussian_METHOD.yaml`, alike in network, data and
epochs. Each is trained into a folder of `--runs` with each seed and certified there; what was begun
goes on. After each certificate `results/certificates_SET.json` and the picture of all curves are
written anew, with means over seeds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from results import save
from robust_runs import begin, chosen_weights, data_root, parser, trained
from robust_tables import mean_and_sd
from robust_training import MARK

from paradise_cli.evaluation.certificates import Certification
from paradise_cli.evaluation.certify import certify
from paradise_cli.figures.canvas import save as save_figure
from paradise_cli.recipe.files import shipped_recipes
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.robustness.classifiers import open_classifier
from paradise_cli.robustness.examples import open_examples

KIND = "gaussian_"
SIGMA = 0.25  # of the recipes' noise
RADII = (0.0, 0.25, 0.5, 0.75)
COLORS = {"augmentation": "#5f6368", "consistency": "#c5221f", "pm": "#1a73e8"}

Found = dict[str, list[Certification]]
"""The certifications of each method, by seed."""


def certified(method: str, seed: int, asked: argparse.Namespace) -> Certification:
    """Train the method with this seed and certify what it leaves, as far as it is not done."""
    root = data_root(asked)
    stem = f"{asked.set}{MARK}{KIND}{method}"
    recipe = load_recipe(stem, [f"train.seed={seed}", *root]).recipe
    run = asked.runs / asked.set / f"{KIND}{method}-s{seed}"
    label = f"{method}-s{seed}"
    chosen = chosen_weights(trained(recipe, run, label, asked.device), recipe)
    target = open_classifier(str(run / chosen["file"]), device=asked.device)
    examples = open_examples(target, n=asked.n, overrides=root)
    found = certify(
        target.function, examples.images, examples.labels,
        # The recipes' sampler keeps its noise within [0, 1].
        sigma=SIGMA, samples=asked.samples, clip=True,
        out=run / f"certified-n{asked.n}x{asked.samples}",
    )  # fmt: skip
    print(f"{label}, {chosen['weights']}: {found}", flush=True)
    return found


def row(method: str, found: Sequence[Certification]) -> dict[str, Any]:
    """One method: its shares as mean and sd over seeds, and the whole curve of each seed."""
    shares = {
        _field(radius): mean_and_sd([each.certified_accuracy(radius).value for each in found])
        for radius in RADII
    }
    return {
        "method": method,
        "clean": mean_and_sd([each.clean_accuracy.value for each in found]),
        "abstains": mean_and_sd([each.abstained.value for each in found]),
        **shares,
        "seeds": len(found),
        "curves": [
            [[radius, share.value, share.low, share.high] for radius, share in each.curve()]
            for each in found
        ],
    }


def _field(radius: float) -> str:
    """Its share's name in a row; in a format a dot would ask for an attribute."""
    return f"at_{radius:g}".replace(".", "_")


def kept(found: Found, asked: argparse.Namespace) -> None:
    """Write the table and the picture of what there is."""
    columns = {f"certified at {radius:g}": f"{{{_field(radius)}}}" for radius in RADII}
    name = f"certificates_{asked.set}"
    save(
        name,
        what=(
            f"Certified accuracy in L2 by randomised smoothing, sigma {SIGMA}, {asked.samples:,}"
            " noisy copies clipped to [0, 1], alpha 0.001: mean ± sd over seeds"
        ),
        data=f"{asked.set.replace('_', '-')}, test",
        n=asked.n,
        seed="0 to one below their number",
        columns={"trained by": "`{method}`", "without noise": "{clean}", **columns,
                 "abstains": "{abstains}", "seeds": "{seeds}"},
        rows=[row(method, each) for method, each in found.items()],
        command=f"python benchmarks/certificates.py --set {asked.set} --seeds N --n {asked.n}",
        note="One image in n is 1/n: Wilson 95% of each curve is in the file.",
    )  # fmt: skip
    draw(found, Path(__file__).parent / "pictures" / f"{name}.png", asked.n)


def draw(found: Found, path: Path, n: int) -> None:
    """Certified accuracy against radius, a line for each training."""
    figure = Figure(figsize=(5.2, 3.4), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for method, each in found.items():
        for seed, certification in enumerate(each):
            curve = certification.curve()
            axes.plot(
                [radius for radius, _ in curve], [share.value for _, share in curve],
                color=COLORS[method], linewidth=1.2, label=None if seed else method,
            )  # fmt: skip
    axes.set_xlabel(f"Euclidean length of the change, pixels in [0, 1]; noise {SIGMA}")
    axes.set_ylabel(f"certified, of {n:,} images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.grid(color="#e8eaed", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, path)


def asked_for() -> argparse.Namespace:
    options = parser(__doc__, runs="runs/robust")
    options.add_argument("--set", required=True, help="fashion_mnist or cifar10_jpeg75")
    options.add_argument("--seeds", type=int, default=1, help="so many seeds, from 0 on")
    options.add_argument("--n", type=int, default=500, help="test images that are certified")
    options.add_argument("--samples", type=int, default=10_000, help="noisy copies of each")
    return options.parse_args()


if __name__ == "__main__":
    chosen = asked_for()
    begin(chosen)
    prefix = f"{chosen.set}{MARK}{KIND}"
    methods = [stem.removeprefix(prefix) for stem in shipped_recipes() if stem.startswith(prefix)]
    found: Found = {method: [] for method in methods}
    for seed in range(chosen.seeds):
        for method in methods:
            found[method].append(certified(method, seed, chosen))
            kept({name: each for name, each in found.items() if each}, chosen)
