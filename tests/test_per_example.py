"""What each image costs: every value from a plain computation, and tables that read back."""

import csv
import dataclasses
import json
import math

import pytest
import torch
from matplotlib import image
from pyarrow import parquet
from typer.testing import CliRunner

from paradise_cli.build import build_model
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.data import synthetic
from paradise_cli.evaluation.cost_table import Column
from paradise_cli.evaluation.evaluate import measure
from paradise_cli.evaluation.image_costs import (
    ImageCosts,
    RankCorrelation,
    _numbers,
    per_example,
    rank_correlation,
    write_image_costs,
)
from paradise_cli.information.gaussian import DiagonalGaussian

from .tiny_model import CLASSES, info_for, save_images, save_tiny, tiny_recipe

CPU = torch.device("cpu")
DEAR = ["rate_nats", "rate_bits", "log_volume"]


def measured(n=40, labelled=None, draws=1, **options):
    """A freshly drawn model measured on n random images, of which the first may alone be
    labelled.
    """
    recipe = tiny_recipe(**options)
    info = info_for(recipe)
    split = synthetic(info, n).test
    if labelled is not None:
        split = split.relabel(torch.where(torch.arange(n)[:, None] < labelled, split.labels, -1))
    model = build_model(recipe, info)
    return measure(model, recipe, info, split, device=CPU, draws=draws), recipe, info, split, model


def table_of(**options):
    found, _, info, split, _ = measured(**options)
    return found, per_example(found, info, split)


def mean(column):
    return float(torch.tensor(column.values, dtype=torch.float64).mean())


def test_bits_are_the_terms_of_the_exact_rate():
    found, table = table_of()
    mu, sigma = found.posterior.double()
    noise = torch.randn(40, 3, generator=generator(0, "exact rate", 0), dtype=torch.float64)
    z = mu + sigma * noise
    log_p = (
        torch.distributions.Normal(mu, sigma).log_prob(z[:, None]).sum(2)
    )  # [40, 40], of z_i under p_j
    expected = log_p.diagonal() - log_p.logsumexp(1) + math.log(40)
    assert table["rate_nats"].values == pytest.approx(expected.tolist(), abs=1e-9)
    assert mean(table["rate_nats"]) == found.evaluation.rate.exact.nats
    bits = [nats / math.log(2) for nats in table["rate_nats"].values]
    assert table["rate_bits"].values == pytest.approx(bits, rel=1e-14)


def test_more_draws_are_averaged_and_counted():
    found, table = table_of(draws=3)
    assert mean(table["rate_nats"]) == pytest.approx(found.evaluation.rate.exact.nats, rel=1e-12)
    assert (found.evaluation.rate.exact.draws, found.rates.shape) == (3, (3, 40))


def test_log_volume_is_the_sum_of_log_sigma():
    found, _, info, split, _ = measured(4)
    widths = torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.5, 1.0, 4.0], [1e-3, 1.0, 1e-3]])
    found = dataclasses.replace(found, posterior=DiagonalGaussian(found.posterior.mu, widths))
    expected = [0.0, -3 * math.log(2), math.log(2), -6 * math.log(10)]
    assert per_example(found, info, split)["log_volume"].values == pytest.approx(expected, abs=1e-7)


def test_columns_average_to_the_evaluation():
    found, table = table_of()
    assert list(table) == [
        "id", "label_class", "predicted_animal", "correct_animal", *DEAR,
        "distortion_animal_sampled", "distortion_animal_mean",
        "distortion_picture_sampled", "distortion_picture_mean",
    ]  # fmt: skip
    for distortion in found.evaluation.distortion:
        for name in ("sampled", "mean"):
            column = table[f"distortion_{distortion.task}_{name}"]
            assert mean(column) == pytest.approx(getattr(distortion, name), rel=1e-12)
    top1 = found.evaluation.classification[0].top1.value
    assert sum(table["correct_animal"].values) / 40 == top1
    pairs = zip(table["predicted_animal"].values, table["label_class"].values, strict=True)
    assert [guess == label for guess, label in pairs] == table["correct_animal"].values
    assert set(table["label_class"].values) <= set(CLASSES)


def test_evaluate_is_what_measure_found():
    done = []
    found, recipe, info, split, model = measured()
    again = measure(model, recipe, info, split, device=CPU, draws=2, progress=done.append)
    assert found.evaluation == measure(model, recipe, info, split, device=CPU).evaluation
    assert sum(done) == 40 * (1 + 2)
    assert again.evaluation.distortion == found.evaluation.distortion


def test_no_column_holds_a_zero_with_a_sign():
    """-log p of a certain class is -0.0 in float64."""
    column = _numbers(torch.tensor([-0.0, 0.0, -1.5, math.nan], dtype=torch.float64))
    assert repr(column.values) == "[0.0, 0.0, -1.5, None]"


def test_an_unlabelled_image_has_a_price_and_a_prediction_but_no_label():
    _, table = table_of(labelled=25)
    for name in (
        "label_class",
        "correct_animal",
        "distortion_animal_sampled",
        "distortion_animal_mean",
    ):
        assert [value is None for value in table[name].values] == [False] * 25 + [True] * 15
    for name in ("predicted_animal", *DEAR, "distortion_picture_mean"):
        assert None not in table[name].values
    assert table["rate_nats"] == table_of()[1]["rate_nats"]


def test_a_deterministic_encoder_has_neither_price_nor_volume(tmp_path):
    found, recipe, info, split, _ = measured(stochastic=False)
    table = per_example(found, info, split)
    assert all(table[name] == Column("double", [None] * 40) for name in DEAR)
    assert None not in table["distortion_animal_mean"].values
    done = write_image_costs(found, recipe, info, split, tmp_path / "a.parquet")
    assert (done.picture, done.correlations, done.verdict) == (None, (), "cannot be told")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    stored = parquet.read_table(tmp_path / "a.parquet")
    assert {name: str(stored.schema.field(name).type) for name in DEAR} == dict.fromkeys(
        DEAR, "double"
    )


@pytest.mark.parametrize(
    "options", [{}, {"labelled": 7}, {"decoder": False}, {"classifier": False}]
)
def test_a_table_reads_back_and_a_picture_stands_beside_it(tmp_path, options):
    found, recipe, info, split, _ = measured(**options)
    table = per_example(found, info, split)
    done = write_image_costs(found, recipe, info, split, tmp_path / "a.b.parquet")
    write_image_costs(found, recipe, info, split, tmp_path / "c.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.b.parquet",
        "a.b.png",
        "c.csv",
        "c.png",
    ]
    assert done.picture.read_bytes() == (tmp_path / "c.png").read_bytes()
    stored = parquet.read_table(tmp_path / "a.b.parquet")
    assert stored.to_pydict() == {name: column.values for name, column in table.items()}
    assert {str(field.type) for field in stored.schema} <= {"string", "bool", "double"}
    with (tmp_path / "c.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(table)
    expected = zip(*(column.values for column in table.values()), strict=True)
    assert rows == [["" if value is None else str(value) for value in row] for row in expected]


def test_a_file_name_of_any_bytes_can_be_written(tmp_path):
    found, recipe, info, split, _ = measured(10)
    split = dataclasses.replace(split, ids=["caf\udce9.png", *split.ids[1:]])
    write_image_costs(found, recipe, info, split, tmp_path / "a.parquet")
    write_image_costs(found, recipe, info, split, tmp_path / "a.csv")
    assert parquet.read_table(tmp_path / "a.parquet")["id"][0].as_py() == "caf\\udce9.png"
    assert b"\ncaf\xe9.png," in (tmp_path / "a.csv").read_bytes()


@pytest.mark.usefixtures("pictures")
def test_the_dearest_and_the_cheapest_are_drawn_once_each(tmp_path):
    """Of four images two are dear; the others black, so that the upper half alone has light
    pixels.
    """
    found, recipe, info, split, _ = measured(4)
    split.images[:] = torch.where(torch.tensor([1, 0, 0, 1])[:, None, None, None] > 0, 128, 0)
    found = dataclasses.replace(
        found, rates=torch.tensor([[3.0, 0.0, 1.0, 2.0]], dtype=torch.float64)
    )
    picture = write_image_costs(found, recipe, info, split, tmp_path / "a.csv").picture
    pixels = image.imread(picture)[..., :3]
    upper, lower = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    grey = abs(pixels - 128 / 255).max(2) < 0.01
    assert grey[: len(upper)].mean() > 0.05
    assert grey[len(upper) :].mean() < 0.01
    assert (lower.max(2) < 0.01).mean() > 0.05


def numbers(*columns):
    return {
        name: Column("double", list(column)) for name, column in zip("dv", columns, strict=True)
    }


def test_a_monotone_relation_has_rank_correlation_one():
    x = [0.1 * k for k in range(20)]
    found = rank_correlation(numbers(x, [math.exp(v) for v in x]), "d", "v")
    assert (found.column, found.n, found.low, found.high) == ("v", 20, 1.0, 1.0)
    assert found.rho == pytest.approx(1.0, abs=1e-15)
    assert rank_correlation(numbers(x, [-v for v in x]), "d", "v").rho == pytest.approx(
        -1.0, abs=1e-15
    )


def test_a_rank_correlation_is_that_of_its_formula():
    """Ten pairs of neighbours swapped: squared differences of ranks sum to 20; None does not
    count.
    """
    x, y = [*range(20), None, 5], [*(k + 1 - 2 * (k % 2) for k in range(20)), 3, None]
    found = rank_correlation(numbers(x, y), "d", "v")
    rho = 1 - 6 * 20 / (20 * (20**2 - 1))
    half = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / 17)
    assert (found.n, found.rho) == (20, pytest.approx(rho, abs=1e-12))
    assert found.low == pytest.approx(math.tanh(math.atanh(rho) - half), abs=1e-12)
    assert found.high == pytest.approx(math.tanh(math.atanh(rho) + half), abs=1e-12)


@pytest.mark.parametrize("y", [[1.0] * 30, [*range(9), *[None] * 21], [None] * 30])
def test_what_never_changes_or_is_too_little_has_no_rank_correlation(y):
    assert rank_correlation(numbers(range(30), y), "d", "v") is None


def test_an_interval_holds_the_truth_nineteen_times_in_twenty():
    """A Gaussian pair of correlation r has Spearman's (6 / pi) asin(r / 2)."""
    draw, hits, r = generator("spearman"), 0, -0.6
    for _ in range(400):
        x, noise = torch.randn(2, 50, generator=draw, dtype=torch.float64)
        y = r * x + math.sqrt(1 - r * r) * noise
        found = rank_correlation(numbers(x.tolist(), y.tolist()), "d", "v")
        hits += found.low < 6 / math.pi * math.asin(r / 2) < found.high
    assert abs(hits / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, -0.1, "holds"),
        (-0.1, 0.1, "undecided"),
        (0.1, 0.5, "does not hold: they are mapped to larger ones"),
    ],
)
def test_the_verdict_is_what_the_interval_leaves(tmp_path, low, high, verdict):
    found = RankCorrelation("log_volume", 50, (low + high) / 2, low, high)
    done = ImageCosts(tmp_path / "a.csv", None, "d", (found,))
    assert done.verdict == done.to_json()["verdict"] == verdict
    assert json.loads(json.dumps(done.to_json()))["correlations"][0]["low"] == low


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("a.json", 2, "end it in .parquet or .csv"),
        ("a", 2, "end it in"),
        ("file/a.csv", 1, "cannot write"),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_a_model_is_read(
    tmp_path, name, code, message
):
    (tmp_path / "file").touch()
    result = run("no-such-model", "--per-example", tmp_path / name)
    assert (result.exit_code, message in result.stderr) == (code, True), result.output
    found, recipe, info, split, _ = measured(4)
    with pytest.raises(UsageError if code == 2 else ParadiseError, match=message):
        write_image_costs(found, recipe, info, split, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("pictures")
def test_the_command_reports_what_it_wrote(tmp_path):
    model = save_tiny(tmp_path / "model.safetensors")
    photos = save_images(tmp_path / "photos", 30)
    (photos / "newt").mkdir()
    (photos / "029.png").rename(photos / "newt" / "029.png")
    changes = ["--set", f"data.root={photos}", "--set", "data.validation=0"]
    options = ["--split", "train", *changes, "--draws", "2"]
    result = run(model, *options, "--json", "--per-example", tmp_path / "a.parquet")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["rate"]["exact"]["draws"] == 2
    assert (value["per_example"]["table"], value["n"]) == (str(tmp_path / "a.parquet"), 30)
    assert {found["column"] for found in value["per_example"]["correlations"]} == {
        "log_volume",
        "rate_bits",
    }
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 30
    assert image.imread(value["per_example"]["picture"]).ndim == 3
    assert json.loads(run(model, *options[:-2], "--json").stdout)["rate"]["exact"]["draws"] == 1
    text = run(model, *options, "--per-example", tmp_path / "a.csv").stdout
    assert all(words in text for words in ("rank correlation", "log_volume", "rate_bits"))
    assert (
        f"harder examples are mapped to smaller posteriors: {value['per_example']['verdict']}"
        in text
    )
    assert "per_example" not in json.loads(run(model, *options, "--json").stdout)
