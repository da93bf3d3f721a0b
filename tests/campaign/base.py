"""What every hostile input is a copy of: a recipe, a run, one that was stopped, images, results."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from paradise_cli.core.resources import resource_dir
from tests.campaign.child import Outcome, run
from tests.campaign.kinds import ATTACK, ENCODE, RECIPE, TRAIN

CLAIM = """\
claim: C4
kind: claim
place: section 3.1
says: A larger alpha gives larger posteriors.
paper: a picture
seeds: 1
check: {quantity: log_volume, of: [large], minus: [small], supported: "> 0.5", refuted: "< 0"}
control: {why: A network is as large as it is itself., of: [small]}
"""
NETWORKS = """\
radius: {smoke: 0.1, small: 0.1, paper: 0.1}
attacked: {smoke: 5, small: 5, paper: 5}
settings: {}
networks:
  small: {smoke: {recipe: small.yaml, set: [objective.alpha=0.01], minutes: 0.1}}
  large: {smoke: {recipe: small.yaml, set: [objective.alpha=1], minutes: 0.1}}
"""
SUFFIXES = ("png", "jpg", "bmp", "tiff", "gif", "webp")


def made(folder: Path) -> Path:
    """The base in this folder, made where it is not there yet; raises where a command fails."""
    place = folder / "base" / "place"
    if (folder / "base" / "whole").exists():
        return place
    shutil.rmtree(folder / "base", ignore_errors=True)
    place.mkdir(parents=True)
    _files(place)
    _must(run(TRAIN, place))
    _stopped(place)
    _must(run(ENCODE, place))
    _must(run(ATTACK, place))
    (folder / "base" / "whole").touch()
    return place


def _files(place: Path) -> None:
    (place / "small.yaml").write_text(RECIPE)
    draw = np.random.default_rng(0)
    (place / "images").mkdir()
    for number, suffix in enumerate(SUFFIXES):
        pixels = draw.integers(0, 256, (9 + number, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.{suffix}")
    images = draw.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    for number, pixels in enumerate(draw.integers(0, 256, (20, 8, 8), dtype=np.uint8)):
        path = place / "classes" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    np.save(place / "images.npy", images)
    np.savez(place / "images.npz", images=images, labels=np.arange(5))
    mu = draw.normal(size=(40, 3))
    np.savez(place / "posteriors.npz", mu=mu, logvar=0 * mu - 1, labels=np.arange(40) % 3)
    _ledger(place / "ledger")
    source = {"p": [0.5, 0.25, 0.25], "d": [[0, 1, 2], [1, 0, 1], [2, 1, 0]]}
    (place / "source.json").write_text(json.dumps(source))


def _ledger(folder: Path) -> None:
    """Two claims, of the recipe's network at two alphas and of none."""
    folder.mkdir()
    shutil.copy(resource_dir("claims") / "X4.yaml", folder)
    (folder / "C4.yaml").write_text(CLAIM)
    (folder / "networks.yaml").write_text(NETWORKS)


def _stopped(place: Path) -> None:
    """A training that ended in its middle: the run without its last checkpoint and results."""
    shutil.copytree(place / "run", place / "stopped")
    for name in ("model.safetensors", "result.json", "curves.png", "confusion.png"):
        (place / "stopped" / name).unlink(missing_ok=True)
    *_, last = sorted((place / "stopped" / "checkpoints").glob("step-*.safetensors"))
    last.unlink()


def _must(outcome: Outcome) -> None:
    if outcome.code != 0:
        raise RuntimeError(f"the base cannot be made: {outcome.stderr}")
