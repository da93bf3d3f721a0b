"""docs/extending.md: its components, in modules outside of the package, do what their texts say.

All of it runs in other processes: a component stays registered for as long as a process lives.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks

MODULES = ("my_attack.py", "my_data.py", "my_distortion.py", "my_rate.py", "my_sampler.py")

DISTORTION_AND_RATE = """
import math
import torch
import my_distortion, my_rate
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.objective.distortions import DISTORTIONS
from paradise_cli.objective.rates import RATES

# At logits (log 3, 0) the label has probability 3/4: (1/4)^power times log(4/3) nats.
logits = torch.tensor([[math.log(3.0), 0.0]] * 2)
focal = DISTORTIONS["focal"](power=2.0).per_example(logits, None, torch.tensor([0, -1]))
assert torch.allclose(focal, torch.tensor([math.log(4 / 3) / 16, 0.0])), focal

# KL(N(mu, sigma^2) || N(0, scale^2)), per dimension: log(scale / sigma) + (sigma^2 + mu^2) /
# (2 scale^2) - 1/2. At sigma = scale and mu = scale it is 1/2, in each of three dimensions.
scale = torch.full((1, 3), 2.5)
posterior = DiagonalGaussian(scale, scale)
assert torch.allclose(RATES["wide"](3, scale=2.5)(posterior, scale).rate, torch.tensor([1.5]))
"""

STRIPES = """
import torch
import my_data
from paradise_cli.data import DATASETS

bundle = DATASETS["stripes"](n=300)
images = torch.cat(list(bundle.train.fetch(torch.arange(300), 100, (), False)))
upright = bundle.train.labels[:, 0] == 1
assert images.shape == (300, 1, 8, 8) and 100 < int(upright.sum()) < 200
assert bool((images[upright] == images[upright][:, :, :1]).all())  # rows are alike
assert bool((images[~upright] == images[~upright][..., :1]).all())  # columns are alike
"""


SAMPLER = """
import torch
import my_sampler
from paradise_cli.perturbations import SAMPLERS

images = torch.full((200, 3, 8, 6), 0.5)
views = SAMPLERS["cutout"](side=3)(images, None, None, torch.arange(200))
black = views == 0
assert bool((black | (views == 0.5)).all())
assert bool((black.sum((2, 3)) == 9).all())  # a whole square in each image and channel
assert bool((black.any(3).sum(2) == 3).all()) and bool((black.any(2).sum(2) == 3).all())
assert bool(black.any(0).all())  # and each pixel is in one of them
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's modules and recipe, in a folder of their own."""
    made = tmp_path_factory.mktemp("outside")
    for block in blocks(ROOT / "docs" / "extending.md"):
        if block.file_name is not None:
            (made / block.file_name).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            (made / "use_attack.py").write_text(block.text, encoding="utf-8")
    return made


def python(folder: Path, *arguments: str) -> str:
    """What a new process prints that finds modules in this folder and in the checkout."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_five_modules_of_about_fifteen_lines(folder: Path) -> None:
    for name in MODULES:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if line.strip() and not line.startswith("#")]
        assert len(code) <= 20, name


def test_each_does_what_its_text_says(folder: Path) -> None:
    python(folder, "-c", DISTORTION_AND_RATE + STRIPES + SAMPLER)


def test_a_recipe_trains_with_all_four(folder: Path) -> None:
    """Stripes are told apart by one look along a row, so nearly every one is classified rightly."""
    shown = python(folder, "-m", "paradise_cli", "train", "mine.yaml", "--json")
    found = json.loads(shown)["test"]
    assert found["data"] == "stripes, test"
    assert found["classification"][0]["top1"]["value"] > 0.95


def test_the_attack_reaches_what_is_true_of_a_plane(folder: Path) -> None:
    measured, exact = map(float, python(folder, "use_attack.py").split())
    assert 0 < exact < 1 and measured == exact
