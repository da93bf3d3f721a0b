"""A weights file small enough for tests, and images that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paradise_cli.build import build_model
from paradise_cli.data import DataInfo, info_of
from paradise_cli.models.weights import save_model
from paradise_cli.recipe.schema import Recipe, parse_resolved

CLASSES = ["cat", "dog", "newt"]
LATENT = 3


def tiny_recipe(*, decoder: bool = True, classifier: bool = True, **model: Any) -> Recipe:
    """Grey 16 x 12 images (after a resize to 12), three classes."""
    tasks: list[dict[str, Any]] = []
    if classifier:
        tasks.append(
            {"name": "animal", "distortion": {"name": "cross_entropy"}, "head": {"name": "linear"}}
        )
    if decoder:
        head = {"name": "mlp_decoder", "hidden": [8]}
        tasks.append({"name": "picture", "distortion": {"name": "squared_error"}, "head": head})
    stochastic = model.get("stochastic", True)
    return parse_resolved(
        {
            "name": "tiny",
            "data": {"name": "image_folder", "size": 12, "channels": 1, "classes": CLASSES},
            "model": {"backbone": {"name": "mlp", "hidden": [8]}, "latent_dim": LATENT} | model,
            "objective": {"tasks": tasks, "alpha": 0.01 if stochastic else 0},
            "optim": {"name": "adam", "lr": 0.01},
            "train": {"epochs": 1, "batch_size": 4},
        },
        "a test",
    )


def info_for(recipe: Recipe) -> DataInfo:
    return info_of(recipe.data.name, recipe.data.root, **recipe.data.hyper)


def save_tiny(
    path: Path, *, imports: Sequence[str] = (), root: str | None = None, **options: Any
) -> Path:
    """A weights file of freshly drawn weights, whose recipe asks for these modules and names this
    folder of data.
    """
    recipe = tiny_recipe(**options)
    info = info_for(recipe)
    stored = recipe.resolved() | {"imports": list(imports)}
    stored["data"]["root"] = root
    metadata = {"recipe": stored, "data": info.to_json(), "provenance": {"step": 0}}
    save_model(path, build_model(recipe, info), metadata)
    return path


def save_images(folder: Path, count: int, seed: int = 0) -> Path:
    """Small PNGs of random pixels, some in sub-folders `cat` and `dog`."""
    random = np.random.default_rng(seed)
    for number in range(count):
        path = folder / ("cat", "dog", "")[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (14, 20, 3), np.uint8)).save(path)
    return folder
