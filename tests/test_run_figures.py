"""Curves of trainings, the plane of several models, and images that were led to a target."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.attacks.engine.jobs import digests, drawn_target
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.reproduction.curves import curves, draw_curves
from paradise_cli.reproduction.plane import Place, Plane, draw_plane, plane_of
from paradise_cli.reproduction.targets import targeted
from paradise_cli.training.run_folder import RunFolder

CPU = torch.device("cpu")


def a_run(folder: Path, *epochs: dict[str, float], recipe: str = "digits") -> RunFolder:
    """A run folder whose epochs had these terms."""
    run = RunFolder(folder)
    folder.mkdir()
    run.recipe.write_text(json.dumps(load_recipe(recipe).recipe.resolved()))
    for number, terms in enumerate(epochs, start=1):
        run.append_metrics(
            {"epoch": number, "step": number, "lr": 0.1, "train": terms, "seconds": 1.0}
        )
    return run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "plain", {"distortion": 2.0}, {"distortion": 1.0}, {"distortion": 0.5})
    a_run(
        tmp_path / "matched",
        {"distortion": 1.5, "matching": 0.004},
        {"distortion": 1.25, "matching": 0.002},
    )


def arrays_in(path: str | Path) -> dict[str, Any]:
    with np.load(path) as file:  # which reads an array when it is asked for it
        return dict(file)


def figure(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["figure", *words])
    assert done.exit_code == code, done.output
    return done


def test_curves_are_what_the_trainings_wrote(runs: None, pictures: None) -> None:
    found = json.loads(figure("curves", "plain", "matched", "--json").stdout)
    assert found["distortion"] == "cross-entropy, nats"
    assert found["runs"]["plain"] == {"epochs": 3, "distortion": 0.5, "matching": None}
    assert found["runs"]["matched"] == {"epochs": 2, "distortion": 1.25, "matching": 0.002}
    with open("figures/curves-plain-matched.csv") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["run", "epoch", "distortion", "matching"],
        ["plain", "1", "2.0", ""], ["plain", "2", "1.0", ""], ["plain", "3", "0.5", ""],
        ["matched", "1", "1.5", "0.004"], ["matched", "2", "1.25", "0.002"],
    ]  # fmt: skip
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    # More epochs by the next time: the same command replaces its picture only with --overwrite.
    RunFolder(Path("plain")).append_metrics(
        {"epoch": 4, "step": 4, "lr": 0.1, "train": {"distortion": 0.1}, "seconds": 1.0}
    )
    assert "made with other epochs" in figure("curves", "plain", "matched", code=2).stderr
    figure("curves", "plain", "matched", "--overwrite")


def test_legends_tell_runs_and_models_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    for module in ("curves", "plane"):
        monkeypatch.setattr(
            f"paradise_cli.reproduction.{module}.save", lambda figure, path: drawn.append(figure)
        )
    found = {
        f"a_rather_long_folder/of_experiments/{name}": a_run(tmp_path / name, {"distortion": 1.0})
        for name in ("first", "second")
    }
    draw_curves(curves(found), tmp_path / "c.png", "")
    places = tuple(Place(f"{'long_' * 7}{end}", 9, *[1.0] * 6, None) for end in "ab")
    draw_plane(Plane("nats", places, ()), tmp_path / "p.png", "")
    names = [
        [text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in drawn
    ]
    assert names == [["first", "second"], [f"…{'long_' * 6}{end}" for end in "ab"]]


def test_runs_of_other_distortions_share_no_unit(tmp_path: Path) -> None:
    terms = {"distortion": 1.0}
    one = a_run(tmp_path / "one", terms)
    other = a_run(tmp_path / "other", terms, recipe="digits_unsupervised")
    with pytest.raises(ParadiseError, match=r"other units \(cross-entropy, nats; squared error\)"):
        curves({"one": one, "other": other})
    assert curves({"other": other}).distortion == "squared error"
    with pytest.raises(ParadiseError, match="no epoch has ended yet"):
        curves({"none": a_run(tmp_path / "none")})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curves", "nowhere"], "nowhere is no run folder"),
        (["curves", *["plain"] * 7], "at most 6 can be told apart"),
        (["plane", "no-such-model"], "no-such-model: no such run folder"),
    ],
)
def test_what_is_no_run_is_named(runs: None, words: list[str], message: str) -> None:
    assert message in figure(*words, code=2).stderr


def test_of_several_models_the_one_that_does_not_fit_is_named(runs: None) -> None:
    models = ["digits-2d", "fashion-mnist-2d-supervised"]
    stderr = figure("plane", *models, "--data", "digits", code=1).stderr
    assert "fashion-mnist-2d-supervised.safetensors: digits has images 1x8x8" in stderr


def test_the_plane_has_the_numbers_of_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: None
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("plane", "digits-2d", "digits-2d", "--device", "cpu")
    found = json.loads(figure(*words, "--json").stdout)
    evaluation = paradise_cli.evaluate("digits-2d", device="cpu")
    first, rate = evaluation.distortion[0], evaluation.rate
    assert found["unit"] == "nats" and rate is not None
    for place in found["models"]:
        assert place["distortion"] == first.sampled and place["rate"] == rate.exact.nats
        half = place["distortion_high"] - first.sampled
        assert half == pytest.approx(1.959964 * first.sampled_error, rel=1e-6)
        ends = place["rate_low"], place["rate_high"]
        assert ends == (rate.population.lower, rate.population.upper)
    with open(found["data"]) as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in rows] == [rate.exact.nats] * 2
    shutil.copytree("figures", "before")
    figure(*words)
    for path in Path("figures").iterdir():
        if not path.name.startswith("."):
            assert path.read_bytes() == (Path("before") / path.name).read_bytes()


def test_a_plane_has_one_unit_and_at_least_one_rate() -> None:
    import dataclasses

    evaluation = paradise_cli.evaluate("digits-2d", device="cpu")
    other = dataclasses.replace(evaluation.distortion[0], unit="squared error")
    apart = dataclasses.replace(evaluation, distortion=(other,))
    with pytest.raises(ParadiseError, match=r"other units \(nats, squared error\)"):
        plane_of([("a", evaluation), ("b", apart)])
    without = dataclasses.replace(evaluation, rate=None, rate_note="of one image nothing is told")
    assert plane_of([("a", evaluation), ("b", without)]).without == ("b",)
    with pytest.raises(ParadiseError, match="none of the models has a rate: of one image"):
        plane_of([("b", without)])


class Linear(nn.Module):
    """Logits W x, where a target is reached by pixels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(3, 16, generator=generator("linear"))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weights.T


def test_targets_are_reached_inside_the_ball_and_only_where_they_can_be() -> None:
    """A linear margin m to the target falls by eps |w_t - w_y|_1 at most, in free pixels: images of
    which it suffices by far are reached, those of which it does not never are.
    """
    net = Linear().eval()
    images = 0.3 + 0.4 * torch.rand(24, 1, 4, 4, generator=generator("targets"))
    labels = net(images).argmax(1)
    eps = 0.2  # pixels stay within [0, 1]
    found = targeted(net, images, labels, CPU, eps=eps, steps=50, shown=24)
    assert found.n == 24 and len(found.rows) == round(found.reached.value * 24)
    rows = list(found.rows)
    assert (net(found.attacked).argmax(1) == found.targets).all()
    assert (found.targets != labels[rows]).all()
    assert float((found.attacked - images[rows]).abs().max()) <= eps + 1e-6
    logits = net(images[rows])
    margin = (logits.amax(1) - logits.gather(1, found.targets[:, None])[:, 0]).double()
    slope = net.weights[labels[rows]] - net.weights[found.targets]
    assert (margin <= eps * slope.abs().sum(1) + 1e-5).all()
    assert 0 < found.reached.value
    nothing = targeted(net, images, labels, CPU, eps=1e-7, steps=5, shown=4)
    assert nothing.reached.value == 0 and not nothing.rows and len(nothing.attacked) == 0


def sevens(images: Tensor) -> Tensor:
    """Class 7 for whatever it is shown."""
    return 9 * torch.eye(10)[7].expand(len(images), 10) + 0 * images.flatten(1)[:, :1]


def test_images_that_are_called_their_target_as_they_are_do_not_count() -> None:
    images = torch.rand(40, 1, 4, 4, generator=generator("sevens"))
    labels = torch.arange(40) % 7
    aims = [
        drawn_target(label, 10, 0, digest)
        for label, digest in zip(labels.tolist(), digests(images), strict=True)
    ]
    there = torch.tensor(aims) == 7
    told: list[str] = []
    found = targeted(
        sevens, images, labels, CPU, eps=0.1, steps=2, shown=4,
        pulse=lambda name, *_: told.append(name),
    )  # fmt: skip
    assert 0 < found.already == int(there.sum()) == 40 - found.n
    assert found.reached.value == 0 and not found.rows and set(told) == {"pgd_rand"}
    with pytest.raises(ParadiseError, match="there is nothing to lead"):
        targeted(sevens, images[there], labels[there], CPU, eps=0.1, steps=2, shown=4)


def test_pictures_of_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paradise_cli.cli.progress.QUIET_SECONDS", 0.0)
    words = ("targets", "digits-2d", "--eps", "0.5", "--steps", "20", "--n", "8", "--device", "cpu")
    done = figure(*words, "--json")
    assert "pgd_rand: " in done.stderr and "standing" in done.stderr
    found = json.loads(done.stdout)
    arrays = arrays_in(found["data"])
    assert len(arrays["rows"]) == len(found["rows"]) > 0
    led = found["reached"]["value"] * found["n"]
    assert math.isclose(led, round(led)) and found["n"] + found["already"] == 8
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    few = ("targets", "digits-2d", "--eps", "1e-6", "--steps", "2", "--n", "4", "--out", "t.png")
    said = figure(*few, "--device", "cpu", code=1).stderr
    assert "no image was led to its target" in said and not Path("t.npz").exists()
