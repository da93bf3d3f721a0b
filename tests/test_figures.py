"""Pictures: the same bytes for the same input, ellipses of the right size, and whole files or
none.
"""

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import image, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import paradise_cli
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.data.base import DataInfo, Preprocessing, Target
from paradise_cli.figures import posterior as plane
from paradise_cli.figures.beside import drawing
from paradise_cli.figures.canvas import own_style, paths_apart, told_apart
from paradise_cli.figures.captioned import Block, draw_captioned
from paradise_cli.figures.posterior import WIDTH, draw_posteriors
from paradise_cli.information.gaussian import DiagonalGaussian

pytestmark = pytest.mark.usefixtures("pictures")

FOREIGN = {"text.usetex": True, "axes.facecolor": "red", "savefig.dpi": 7, "font.size": 40}


def info(classes):
    targets = (Target("class", tuple(f"class {i}" for i in range(classes))),) if classes else ()
    return DataInfo("toy", (1, 8, 8), targets, 10, Preprocessing(1, None, (8, 8)))


def cloud(n, latent_dim=2, sigma=0.1):
    mu = torch.randn(n, latent_dim, generator=generator("cloud"))
    return DiagonalGaussian(mu, torch.full((n, latent_dim), sigma))


def numbers(n, classes):
    return (torch.arange(n) % max(classes, 1))[:, None]


def colours(path):
    """How many pixels are not grey."""
    pixels = image.imread(path)[..., :3]
    return int((np.ptp(pixels, axis=2) > 0.1).sum())


def test_95_percent_of_a_gaussian_lie_inside_its_ellipse():
    z = torch.randn(200_000, 2, generator=generator("inside"), dtype=torch.float64)
    assert float((z.square().sum(1) <= (WIDTH / 2) ** 2).double().mean()) == pytest.approx(
        0.95, abs=0.002
    )
    assert pytest.approx(4.8955, abs=1e-4) == WIDTH


def test_an_ellipse_has_its_width_and_height_in_data_units():
    """Axes of unequal scale: 10 x 40 units on 5 x 5 inches at 100 dpi."""
    figure = Figure(figsize=(5, 5), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    plane._ellipses(
        axes, np.array([[5.0, 20.0]]), np.array([[1.0, 2.0]]), np.zeros(1), np.zeros((1, 3))
    )
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 40)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    dark = np.asarray(canvas.buffer_rgba())[..., 0] < 250
    across, down = dark.any(0).sum(), dark.any(1).sum()
    assert across == pytest.approx(WIDTH * 1 / 10 * 500, abs=4)
    assert down == pytest.approx(WIDTH * 2 / 40 * 500, abs=4)


@pytest.mark.parametrize("classes", [0, 3, 10, 15, 200])
def test_a_picture_is_the_same_whenever_it_is_drawn(tmp_path, classes):
    for name, settings in (("a.png", {}), ("b.png", FOREIGN)):
        with rc_context(settings):
            draw_posteriors(cloud(60), numbers(60, classes), info(classes), tmp_path / name, "toy")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert (colours(tmp_path / "a.png") > 0) == (classes > 0)


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a", "b", "a"], ["a (1)", "b", "a (2)"]),
        (["a", "a", "a (1)"], ["a (2)", "a (3)", "a (1)"]),
        (["long_folder/of/first", "long_folder/of/second"], ["first", "second"]),
        (["long/folder/x/run", "long/folder/y/run"], ["x/run", "y/run"]),
        (["long_folder/of_one/"], ["of_one"]),
        (["a_model_of_alpha_1", "a_model_of_alpha_2"], ["…of_alpha_1", "…of_alpha_2"]),
        (["1_of_the_long_names", "2_of_the_long_names"], ["1_of_the_l…", "2_of_the_l…"]),
        (["a_1_of_the_long", "a_1_of_the_lung", "a_2_of_the_long"], ["a_1_o…_long", "a_1_o…_lung",
         "a_2_o…_long"]),
    ],
)  # fmt: skip
def test_names_are_cut_where_they_are_alike(names, short):
    assert paths_apart(names, 11) == short


@pytest.mark.parametrize("names", [["w/o mask", "w/ mask"], ["yes/no"], ["/", "x"], ["a/", "a"]])
def test_of_names_that_are_no_paths_nothing_is_left_out(names):
    assert told_apart(names) == names


def test_every_picture_is_drawn_in_our_own_style():
    """Whatever a matplotlibrc in the current folder asks for: see `own_style`."""
    drawers = 0
    for module in Path(paradise_cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef) and any(map(saves, ast.walk(node))):
                assert "own_style" in map(ast.unparse, node.decorator_list), (module, node.name)
                drawers += 1
    assert drawers > 8


@pytest.mark.parametrize("name", ["u$_$.safetensors", "$5 and $6", "$x$"])
def test_a_dollar_sign_begins_no_formula(tmp_path, name):
    """Titles and legends, here and in every other drawing, as all have `own_style`."""
    named = replace(info(1), targets=(Target("class", (name,)),))
    draw_posteriors(cloud(9), numbers(9, 1), named, tmp_path / "a.png", f"runs/{name}")

    @own_style
    def drawn():
        return Figure().text(0, 0, name).get_parse_math()

    assert not drawn()


def saves(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "save" and len(node.args) == 2


@pytest.mark.parametrize("reason", [ValueError("bad\x1b font"), ParadiseError("disk is full")])
def test_a_picture_that_fails_is_one_line_and_none_is_left(tmp_path, reason):
    (tmp_path / "a.png").write_text("of other numbers")
    said = []
    with drawing(tmp_path / "a.png", said.append):
        raise reason
    (line,) = said
    assert str(tmp_path / "a.png") in line and line.isprintable()
    assert not list(tmp_path.iterdir())
    with pytest.raises(type(reason)), drawing(tmp_path / "a.png", None):
        raise reason


def test_unlabelled_images_are_grey(tmp_path):
    draw_posteriors(cloud(60), torch.full((60, 1), -1), info(0), tmp_path / "grey.png", "toy")
    draw_posteriors(cloud(60), torch.empty(60, 0).long(), info(0), tmp_path / "none.png", "toy")
    assert (tmp_path / "grey.png").read_bytes() == (tmp_path / "none.png").read_bytes()
    assert colours(tmp_path / "grey.png") == 0
    some = torch.cat([numbers(30, 3), torch.full((30, 1), -1)])
    draw_posteriors(cloud(60), some, info(3), tmp_path / "some.png", "toy")
    assert colours(tmp_path / "some.png") > 0


def test_only_the_first_2000_are_drawn(tmp_path):
    draw_posteriors(cloud(2500), numbers(2500, 3), info(3), tmp_path / "all.png", "toy")
    first = DiagonalGaussian(*(part[:2000] for part in cloud(2500)))
    draw_posteriors(first, numbers(2000, 3), info(3), tmp_path / "first.png", "toy")
    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "first.png").read_bytes()


@pytest.mark.parametrize("n", [1, 5])
def test_points_in_one_place_without_width_can_be_drawn(tmp_path, n):
    posterior = DiagonalGaussian(torch.zeros(n, 2), torch.zeros(n, 2))
    draw_posteriors(posterior, numbers(n, 2), info(2), tmp_path / "point.png", "$not math")
    assert colours(tmp_path / "point.png") > 0


def test_what_cannot_be_drawn_leaves_no_file(tmp_path):
    for posterior, reason in ((cloud(5, 3), "2 latent"), (cloud(5, sigma=math.nan), "not finite")):
        with pytest.raises(ParadiseError, match=reason):
            draw_posteriors(posterior, numbers(5, 2), info(2), tmp_path / "no.png", "toy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("counts", "channels"), [((1, 1), 1), ((16, 16), 3), ((9, 2), 1), ((3,), 3)]
)
def test_captioned_images_stand_in_blocks(tmp_path, counts, channels):
    blocks = []
    for count in counts:
        images = torch.rand(count, channels, 8, 6, generator=generator("captioned", count))
        blocks.append(
            Block(
                "$heading", images, ["$1.0\na very long name of a class"] * count, [False] * count
            )
        )
    for name in ("a.png", "b.png"):
        draw_captioned(blocks, tmp_path / name, "toy $")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (colours(tmp_path / "a.png") > 0) == (channels == 3)


def test_a_marked_caption_is_red(tmp_path):
    for name, marked in (("plain", False), ("marked", True)):
        block = Block("two", torch.zeros(2, 1, 8, 8), ["one", "other"], [False, marked])
        draw_captioned([block], tmp_path / f"{name}.png")
    assert colours(tmp_path / "plain.png") == 0
    assert colours(tmp_path / "marked.png") > 0


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 2, 4, 4)])
def test_captioned_images_of_other_shapes_are_refused(tmp_path, shape):
    blocks = [Block("", torch.zeros(size), [""] * 2, [False] * 2) for size in ((2, 2, 4, 4), shape)]
    with pytest.raises(ParadiseError, match="one shape"):
        draw_captioned(blocks, tmp_path / "a.png")
