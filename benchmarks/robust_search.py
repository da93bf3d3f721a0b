"""A recipe tried with other numbers, each judged on validation images alone; all tries are kept.

    python benchmarks/robust_search.py fashion_mnist_robust_pm --epochs 4 \\
        --try objective.matching.gamma=1 --try objective.matching.gamma=10

Each `--try` is one or several overrides of the recipe. It is trained into a folder of `--runs` (one
that was begun there goes on), and what its best averaged weights are worth on validation images is
added to `results/robust/search/RECIPE.json`: a row for each try, whether it was chosen or not.
"""

import argparse
import json
from hashlib import sha256
from typing import Any

from results import FOLDER, save
from robust_runs import begin, chosen_weights, data_root, parser, plain_names, trained

from paradise_cli.core.machine import commit
from paradise_cli.recipe.schema import load_recipe

COLUMNS = {
    "try": "`{try}`",
    "epochs": "{epochs}",
    "accuracy": "{accuracy:.1%}",
    "under attack": "{robust:.1%}",
    "seed": "{seed}",
    "commit": "{commit}",
}


def tried(overrides: list[str], asked: argparse.Namespace) -> dict[str, Any]:
    """Train the recipe with these overrides, and what it is worth on validation images."""
    same = [f"train.epochs={asked.epochs}", f"train.seed={asked.seed}"]
    recipe = load_recipe(asked.recipe, [*overrides, *same, *data_root(asked)]).recipe
    label = " ".join(overrides) or "as in this commit"
    # By what is tried: the same try goes on in the same folder.
    digest = sha256(json.dumps(recipe.resolved(), sort_keys=True, default=str).encode()).hexdigest()
    run = asked.runs / asked.recipe / digest[:12]
    result = trained(recipe, run, label, asked.device)
    chosen = chosen_weights(result, recipe)
    found = plain_names(chosen["validation"])
    return {
        "try": label,
        "epochs": asked.epochs,
        "seed": asked.seed,
        "accuracy": found["accuracy"],
        "robust": found["robust"],
        "weights": chosen["weights"],
        "data": result["data"],
        # Of each row: a recipe as it is shipped is another one tomorrow.
        "commit": (commit() or "unknown")[:7],
    }


def kept(row: dict[str, Any], asked: argparse.Namespace) -> None:
    """Add the row to those on file, in place of an earlier one of the same try."""
    name = f"robust/search/{asked.recipe}"
    file = FOLDER / f"{name}.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    same = ("try", "epochs", "seed")
    others = [each for each in rows if any(each[key] != row[key] for key in same)]
    validate = load_recipe(asked.recipe).recipe.train.validate
    assert validate is not None, "a recipe without it has nothing to be chosen by"
    save(
        name,
        what=(
            f"Tries of {asked.recipe}, judged by {validate.attack.steps} steps on the margin at"
            f" eps {validate.attack.eps:.4g}"
        ),
        data=f"{row['data']}, validation",
        n=validate.images,
        seed="as listed",
        columns=COLUMNS,
        rows=[*others, row],
        command=f"python benchmarks/robust_search.py {asked.recipe} --epochs N --try OVERRIDES",
        note="The best epoch was chosen on the same images, so all of these flatter a little.",
    )


def asked_for() -> argparse.Namespace:
    options = parser(__doc__, runs="runs/search")
    options.add_argument("recipe", help="name of a shipped recipe")
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--try", dest="tries", nargs="*", action="append", default=[], metavar="OVERRIDE"
    )
    return options.parse_args()


if __name__ == "__main__":
    chosen = asked_for()
    begin(chosen)
    for overrides in chosen.tries or [[]]:
        row = tried(overrides, chosen)
        kept(row, chosen)
        print(" | ".join(form.format(**row) for form in COLUMNS.values()), flush=True)
