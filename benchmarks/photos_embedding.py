"""What the packaged embedding of photos still knows: logistic regression on z and on the features.

    python benchmarks/photos_embedding.py FOLDER --label cifar10-jpeg75 --save

FOLDER has train/ and test/ with class folders. Both regressions choose their penalty by
cross-validation on training images, and are judged on the same test images.
"""

import argparse
from pathlib import Path

import torch
from photos import Features, features, plain, scored
from results import save

from paradise_cli.build import build_data
from paradise_cli.inference.features import behind_backbone
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.recipe.schema import load_recipe


def embedded(loaded: LoadedModel, given: Features) -> Features:
    """Means of z in place of features."""
    model, _ = behind_backbone(loaded.model, loaded.info)
    with torch.no_grad():
        return model.encode(given[0]).mu[..., None, None], given[1]


def main() -> None:
    """Print a row for each of the two, and save them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--label", required=True, help="what the data are called")
    parser.add_argument("--model", default="photos-lite0")
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    own = [f"data.root={asked.folder}", f"data.label={asked.label}", "data.validation=0.0"]
    recipe = load_recipe("photos_unlabelled", own).recipe
    data = build_data(recipe)
    assert data.test is not None
    train, test = features(recipe, data.train), features(recipe, data.test)
    loaded = load(asked.model)
    beside = plain(train, test)
    right = plain(embedded(loaded, train), embedded(loaded, test))
    rows = [
        {"of": f"{train[0].shape[1]:,} plain features"} | scored(beside, beside),
        {"of": f"{loaded.model.latent_dim} means of {asked.model}"} | scored(right, beside),
    ]
    print(*rows, sep="\n")
    if asked.save:
        save(
            "photos_embedding", rows=rows, data=f"{asked.label}, test", n=len(beside), seed=0,
            what=f"Logistic regression on what `encode` writes, {len(train[1]):,} training images",
            interval="Wilson 95%; differences: paired, 95%",
            command=f"python benchmarks/photos_embedding.py FOLDER --label {asked.label} --save",
            columns={"regression on": "{of}",
                     "accuracy": "{accuracy:.2%} ({low:.2%} to {high:.2%})",
                     "points from the features, same images": "{apart:+.2f} ± {half:.2f}"},
            note="Short side 256, middle 224, as the model reads photos.",
        )  # fmt: skip


if __name__ == "__main__":
    main()
