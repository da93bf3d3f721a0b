"""Surface, gradients and angles, on classifiers whose answers are known."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.nuisance import Mean
from paradise_cli.reproduction import surface_picture
from paradise_cli.reproduction.input_gradients import (
    Gradients,
    gradients,
    orthogonality,
    visible,
)
from paradise_cli.reproduction.loss import Loss
from paradise_cli.reproduction.surface import (
    GRID,
    POINTS,
    Surface,
    directions,
    smoothness,
    surface,
    typical,
)
from paradise_cli.robustness.examples import Examples, open_examples

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)


class Steep(nn.Module):
    """Logits (0, offset - w x): the loss of class 1 is w x - offset to e^-20 where that is > 20.

    It returns gradients and heights that can be written down.
    """

    def __init__(self, weights: Tensor, offset: float) -> None:
        super().__init__()
        self.weights = weights
        self.offset = offset

    def forward(self, images: Tensor) -> Tensor:
        score = (images.flatten(1) * self.weights).sum(1)
        return torch.stack([torch.zeros_like(score), self.offset - score], 1)


def steep(seed: int, *, size: int = 16, offset: float = -25.0) -> Steep:
    return Steep(torch.randn(size, generator=generator(seed, "weights")), offset).eval()


def images_of(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=generator(0, "images"))


def test_the_loss_around_images_of_a_linear_classifier_is_a_plane() -> None:
    """l(x + u g + v r) = l(x) + u |w|_1 + v <w, r>."""
    net, images = steep(0), images_of(5)
    labels = torch.ones(5, dtype=torch.int64)
    found = surface(Loss(net, images, labels, CPU), images, labels, eps=0.5, shown=2)
    assert found.loss.shape == (2, GRID, GRID) and found.n == 5
    rise = float(net.weights.abs().sum())
    for row, plane in zip(found.rows, found.loss, strict=True):
        start = float((images[row].flatten() * net.weights).sum()) + 25
        along = start + rise * found.offsets
        torch.testing.assert_close(plane[GRID // 2], along, atol=1e-4, rtol=0)
        # Straight across too, with one slope everywhere.
        across = plane.diff(dim=0)
        torch.testing.assert_close(across, across.mean().expand_as(across), atol=2e-5, rtol=0)
    # The share that is left is of single precision: losses near 25, which rise by a few.
    assert found.linearity < 1e-6
    assert (found.predicted == 0).all()


def test_the_deviation_along_random_signs_is_that_of_a_line() -> None:
    """l changes by v <w, r>: over POINTS equal steps from -eps to eps a line of slope s deviates by
    s eps sqrt((m + 1) / (3 (m - 1))).
    """
    w = torch.randn(16, generator=generator(1, "w"), dtype=torch.float64)
    images = images_of(7).double()
    gradient = w.view(SHAPE).expand(7, *SHAPE)
    steepest, random = directions(gradient, torch.arange(7))
    wavering, _ = smoothness(
        lambda x: (x.flatten(1) * w).sum(1), images, gradient, steepest, random, eps=0.1
    )
    slope = (random.flatten(1) * w).sum(1).abs()
    deviation = slope * 0.1 * math.sqrt((POINTS + 1) / (3 * (POINTS - 1)))
    torch.testing.assert_close(wavering, deviation, rtol=1e-9, atol=0)


def test_random_signs_are_orthogonal_to_those_of_the_gradient_exactly() -> None:
    gradient = torch.randn(9, 3, 6, 6, generator=generator(2, "g"))
    gradient[0, 0] = 0  # without slope either sign will do, and 0 would be a shorter line
    steepest, random = directions(gradient, torch.arange(9))
    assert set(steepest.unique().tolist()) == set(random.unique().tolist()) == {-1, 1}
    assert ((steepest * random).flatten(1).sum(1) == 0).all()
    assert torch.equal(steepest[1:], gradient[1:].sign())
    again = directions(gradient[3:4], torch.arange(3, 4))
    assert torch.equal(again[1], random[3:4])


def test_a_linear_loss_is_flat_along_random_lines_and_its_own_tangent() -> None:
    """l = 3 sum x: along r, orthogonal to the signs of its gradient, it does not change at all."""
    images = images_of(4, (3, 6, 6)).double()
    gradient = torch.full_like(images, 3)
    steepest, random = directions(gradient, torch.arange(4))
    found = smoothness(lambda x: 3 * x.flatten(1).sum(1), images, gradient, steepest, random, 0.1)
    torch.testing.assert_close(torch.stack(found), torch.zeros(2, 4, dtype=torch.float64))


def test_a_quadratic_loss_wavers_and_bends_as_its_closed_form_says() -> None:
    """l = sum x^2 / 2 at x = c > 0, d pixels: l(x + u r) - l(x) = u^2 d / 2 and, along g = 1,
    l(x + u g) - l(x) = u c d + u^2 d / 2, so that its error is eps / (2 c + eps).
    """
    eps, c, d = 0.1, 0.4, 108
    images = torch.full((2, 3, 6, 6), c, dtype=torch.float64)
    steepest, random = directions(images, torch.arange(2))
    wavering, error = smoothness(
        lambda x: x.square().flatten(1).sum(1) / 2, images, images, steepest, random, eps
    )
    squares = torch.linspace(-eps, eps, POINTS, dtype=torch.float64).square() * d / 2
    torch.testing.assert_close(wavering, squares.std(correction=0).expand(2))
    torch.testing.assert_close(error, torch.full_like(error, eps / (2 * c + eps)))


def test_gradients_do_not_depend_on_how_many_are_asked_for() -> None:
    """And are those that the chain rule gives: w, times the probability of the other class."""
    net, images = steep(3, offset=0.0), images_of(70)
    labels = torch.ones(70, dtype=torch.int64)
    loss = Loss(net, images, labels, CPU)
    found = loss.gradient(images, labels)
    other = torch.sigmoid((images.flatten(1) * net.weights).sum(1))
    wanted = other[:, None] * net.weights
    torch.testing.assert_close(found.flatten(1), wanted, atol=1e-6, rtol=1e-5)
    assert torch.equal(loss.gradient(images[5:6], labels[5:6]), found[5:6])


def test_gradients_of_independent_linear_models_are_as_orthogonal_as_chance() -> None:
    """In d dimensions the cosines have deviation 1 / sqrt(d); of one pair all images share one
    cosine, so 40 independent models are compared.
    """
    d, images = 256, images_of(2, (1, 16, 16))
    labels = torch.ones(2, dtype=torch.int64)
    losses = {
        f"{seed}": Loss(steep(seed, size=d, offset=-200.0), images, labels, CPU)
        for seed in range(40)
    }
    found = orthogonality(gradients(losses, images, labels))
    cosines = torch.tensor([pair.cosine.value for pair in found.pairs])
    assert found.random_deviation == 1 / 16 and len(found.pairs) == 40 * 39 // 2
    # 780 cosines: their mean is known to 0.0022, their deviation to 2.5%.
    assert abs(float(cosines.mean())) < 5 * 0.0625 / math.sqrt(780)
    assert float(cosines.std()) == pytest.approx(0.0625, rel=0.13)
    # E|cos| of a Gaussian is sqrt(2 / pi) of its deviation, but for 1 / (4 d).
    assert found.random_size == pytest.approx(0.0625 * math.sqrt(2 / math.pi), rel=2e-3)
    assert float(cosines.abs().mean()) == pytest.approx(found.random_size, rel=0.15)
    signs = sum(pair.signs.value for pair in found.pairs) / len(found.pairs)
    assert signs == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(256 * 780) + 0.005)


def test_angles_of_gradients_that_are_known() -> None:
    """60 degrees, the opposite, and an image of which one model is sure."""
    one = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).view(3, 1, 2, 2)
    other = torch.tensor([[0.5, math.sqrt(0.75), 0, 0], [-2, -2, 0, 0], [1, 0, 0, 0]])
    found = orthogonality(Gradients(one, torch.zeros(3), {"a": one, "b": other.view(3, 1, 2, 2)}))
    (pair,) = found.pairs
    torch.testing.assert_close(
        found.cosines[0], torch.tensor([0.5, -1, math.nan]).double(), equal_nan=True
    )
    assert pair.n == 2 and pair.cosine.value == pytest.approx(-0.25)
    assert pair.deviation == pytest.approx(0.75) and pair.size.value == pytest.approx(0.75)
    # Of the first image one pixel has a slope in both, of the second two, which disagree.
    assert pair.signs.value == pytest.approx(0.5)


def test_models_without_any_gradient_have_no_angle() -> None:
    flat = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ParadiseError, match="no image at which both a and b have a gradient"):
        orthogonality(Gradients(flat, torch.zeros(2), {"a": flat, "b": flat + 1}))


def test_a_flat_loss_has_no_distance_from_its_tangent() -> None:
    images, labels = images_of(3), torch.ones(3, dtype=torch.int64)
    loss = Loss(steep(0, offset=1e4), images, labels, CPU)  # sure of all: log 1 everywhere
    assert surface(loss, images, labels, eps=0.01, shown=1).linearity is None


def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle() -> None:
    assert typical(torch.tensor([0.75, 0.25, torch.inf, torch.nan])) == 0.5
    assert typical(torch.tensor([1.0, 0.25, 0.5])) == 0.5 and typical(torch.tensor([])) is None


def test_no_line_is_drawn_around_a_plain_at_the_lowest_loss() -> None:
    """l = max(u, 0), for u from -1 to 1: of nine heights the first line stands at u = 1 / 9."""
    offsets = torch.linspace(-1, 1, GRID)
    loss = torch.stack([offsets.clamp(min=0).expand(GRID, GRID), torch.zeros(GRID, GRID)])
    none = Mean(0.0, 0.0, 0.0)
    found = Surface(1.0, offsets, loss, loss, torch.zeros(2), (0, 1), 2, none, None)
    drawn = []
    for plane in range(2):
        axes = Figure().subplots()
        surface_picture._heights(axes, found, plane, np.linspace(0, 1, 10))
        drawn.append(axes.collections[1:])
    ((lines,), flat) = drawn
    steps = np.unique(np.concatenate([path.vertices for path in lines.get_paths()])[:, 0].round(6))
    assert steps == pytest.approx(np.arange(1, 9) / 9, abs=1e-5) and not flat


def test_a_gradient_is_shown_up_to_three_deviations() -> None:
    gradient = torch.zeros(2, 1, 10, 10)
    gradient[0, 0, 0, 0] = 100.0  # mean 1, deviation sqrt(99): 3 of them reach 30.8
    found = visible(gradient)
    assert float(found[0, 0, 0, 0]) == 1
    assert float(found[0, 0, 5, 5]) == pytest.approx(0.5 - 0.5 / (3 * math.sqrt(99)))
    assert (found[1] == 0.5).all()


class Rough(nn.Module):
    """Sure of all that lies in [0, 1]; what it says elsewhere is no number, or it is drawn."""

    def __init__(self, *, random: bool) -> None:
        super().__init__()
        self.random = random

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1).sum(1)
        score = score + torch.randn(len(score)) if self.random else score
        inside = (images.flatten(1) >= 0).all(1)
        score = torch.where(inside, score, torch.nan)
        return torch.stack([torch.zeros_like(score), score], 1)


def test_what_has_no_loss_at_a_point_is_said() -> None:
    images, labels = torch.full((3, *SHAPE), 0.05), torch.ones(3, dtype=torch.int64)
    with pytest.raises(ParadiseError, match="answers at random"):
        Loss(Rough(random=True).eval(), images, labels, CPU)
    loss = Loss(Rough(random=False).eval(), images, labels, CPU)
    assert surface(loss, images, labels, eps=0.01, shown=1).n == 3
    with pytest.raises(ParadiseError, match=r"within eps = 0.1 of some images the loss is no"):
        surface(loss, images, labels, eps=0.1, shown=1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classifiers of one's own and an archive of images, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "\n".join(
        f"def {name}():\n    torch.manual_seed({seed})\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()\n"
        for name, seed in (("one", 1), ("other", 2))
    )
    (tmp_path / "figure_nets.py").write_text(f"import torch\nfrom torch import nn\n{text}")
    draw = np.random.default_rng(0)
    images = draw.random((20, 1, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=draw.integers(0, 3, 20))
    return tmp_path


def arrays_in(path: str | Path) -> dict[str, Any]:
    with np.load(path) as file:  # which reads an array when it is asked for it
        return dict(file)


def figure(*words: str, code: int = 0):
    done = CliRunner().invoke(app, ["figure", *words, "--device", "cpu"])
    assert done.exit_code == code, done.output
    return done


DATA = ("--data", "images.npz")


def test_a_figure_is_a_picture_and_the_data_it_shows(own: Path, pictures: None) -> None:
    found = json.loads(figure("surface", "figure_nets:one", *DATA, "--json").stdout)
    assert found["picture"] == "figures/surface-figure_nets-one.png" and found["n"] == 20
    picture, data = (Path(found[name]) for name in ("picture", "data"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    arrays = arrays_in(data)
    assert arrays["loss"].shape == (3, GRID, GRID) and list(arrays["rows"]) == found["rows"]
    assert arrays["offsets"][-1] == pytest.approx(8 / 255)
    # In the middle stands the loss of the image itself.
    import figure_nets

    given = arrays_in("images.npz")
    with torch.no_grad():
        logits = figure_nets.one()(torch.from_numpy(given["images"]))
    wanted = nn.functional.cross_entropy(
        logits, torch.from_numpy(given["labels"]), reduction="none"
    )[found["rows"]]
    np.testing.assert_allclose(arrays["loss"][:, GRID // 2, GRID // 2], wanted, atol=1e-5)
    before = picture.read_bytes(), data.read_bytes()
    figure("surface", "figure_nets:one", *DATA)
    assert before == (picture.read_bytes(), data.read_bytes())


def test_two_models_are_asked_about_the_same_images(own: Path) -> None:
    models = ("figure_nets:one", "figure_nets:other")
    found = json.loads(figure("orthogonality", *models, *DATA, "--json").stdout)
    (pair,) = found["pairs"]
    assert pair["models"] == list(models) and pair["n"] == 20
    assert found["pixels"] == 64 and "|cosine|" in figure("orthogonality", *models, *DATA).stdout
    figure("gradients", *models, *DATA, "--shown", "4", "--out", "g.png")
    assert arrays_in("g.npz")["gradients"].shape == (2, 4, 1, 8, 8)
    # As many as there are, where there are fewer than it would show.
    few = {name: array[:1] for name, array in arrays_in("images.npz").items()}
    np.savez("few.npz", **few)
    assert json.loads(figure("gradients", *models, "--data", "few.npz", "--json").stdout)["n"] == 1


def test_what_should_be_known_of_a_classifier_is_said(own: Path) -> None:
    """Gradients that are lost, whose image it is, one image without an interval."""
    with open("figure_nets.py", "a") as file:
        file.write(
            "\n\nclass Lost(nn.Module):\n    def forward(self, x):\n"
            "        return x.detach().flatten(1)[:, :3]\n\n"
            "def lost():\n    return Lost().eval()\n\n"
            "def forgot():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        )
    sys.modules.pop("figure_nets", None)
    done = figure("surface", "figure_nets:lost", *DATA, "--n", "1")
    assert "figure_nets:lost: no gradient of the logits comes back" in done.stderr
    assert (
        " to " not in done.stdout.split("deviation of the loss")[1].split("nats")[1].split("│")[1]
    )
    said = figure("gradients", "figure_nets:one", "figure_nets:forgot", *DATA, code=2).stderr
    assert "figure_nets:forgot: the model is in training mode" in said
    assert (
        "is no regular file"
        in figure("surface", "figure_nets:one", *DATA, "--out", "/dev/null", code=2).stderr
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["surface", "figure_nets:one", *DATA, "--eps", "0"], 2, "--eps 0: above 0 and at most 1"),
        (["surface", "figure_nets:one", *DATA, "--eps", "8"], 2, "--eps 8: above 0 and at most 1"),
        (["surface", "figure_nets:one"], 2, "--data is needed for a classifier of your own"),
        (["surface", "figure_nets:one", *DATA, "--n", "21"], 2, "has only 20 labelled images"),
        (["surface", "no-such-model", *DATA], 2, "no-such-model: no such run folder"),
        (["surface", "figure_nets:one", *DATA, "--out", "s.pdf"], 2, "end it in .png"),
        (["orthogonality", "figure_nets:one", *DATA], 2, "name two or more"),
        (
            ["gradients", "digits-2d", "fashion-mnist-2d-unsupervised"],
            1,
            "fashion-mnist-2d-unsupervised: this model has no classification head, only: squared",
        ),
        (
            ["gradients", "digits-2d", "figure_nets:one", "--data", "digits"],
            1,
            "labels run from 2 to 8, but the classifier returns 3 logits",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_message(
    own: Path, words: list[str], code: int, message: str
) -> None:
    said = figure(*words, code=code).stderr
    assert message in said and said.count("error: ") <= 1
    assert not Path("figures").exists()


def test_models_that_number_classes_in_another_way_are_not_compared(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = iter((0, 1))

    def shifted(*given: Any, **more: Any) -> Examples:
        found = open_examples(*given, **more)
        return replace(found, labels=(found.labels + next(shifts)) % 3)

    monkeypatch.setattr("paradise_cli.robustness.examples.open_examples", shifted)
    said = figure("gradients", "figure_nets:one", "figure_nets:other", *DATA, code=1).stderr
    data = "judged on images.npz"
    assert f"figure_nets:one is {data}, and figure_nets:other on images.npz: these are not" in said
