"""Evaluation of small untrained models: every number from a plain computation, whatever the
batches.
"""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from paradise_cli.build import build_info, build_model, build_objective
from paradise_cli.cli import app
from paradise_cli.cli.evaluate import print_evaluation
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.data import DataInfo, Preprocessing, Target, synthetic
from paradise_cli.evaluation import evaluate as evaluation
from paradise_cli.evaluation.evaluation_data import fit_labels, open_split
from paradise_cli.evaluation.passes import noise_of, posteriors
from paradise_cli.evaluation.validation import validation_of
from paradise_cli.inference.loading import load
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.latents import latents
from paradise_cli.information.rate_interval import rate_interval
from paradise_cli.models.weights import save_model
from paradise_cli.objective.rates import RATES
from paradise_cli.recipe.check import RecipeError
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.prepare import weights_metadata

from .tiny_model import save_images

CPU = torch.device("cpu")
SMALL = ["train.batch_size=16", "model.latent_dim=3"]


def digits(*overrides, recipe="digits"):
    """Recipe, description and a freshly drawn model of the embedded digits."""
    recipe = load_recipe(recipe, [*SMALL, *overrides]).recipe
    info = DataInfo(
        "digits",
        (1, 8, 8),
        (Target("digit", tuple("0123456789")),),
        60,
        Preprocessing(1, 8, (8, 8)),
    )
    return recipe, info, build_model(recipe, info)


def evaluate(*arguments, **options):
    return evaluation.measure(*arguments, **options).evaluation


def measure(*overrides, recipe="digits", n=60, split=None, **options):
    recipe, info, model = digits(*overrides, recipe=recipe)
    split = synthetic(info, n).test if split is None else split(info)
    return evaluate(model, recipe, info, split, device=CPU, **options)


def pixels(split):
    return next(split.fetch(torch.arange(len(split)), len(split), (), False)).float() / 255


def test_numbers_are_those_of_a_plain_computation():
    recipe, info, model = digits()
    split = synthetic(info, 60).test
    measured = evaluate(model, recipe, info, split, device=CPU)
    log_p, labels = model.classifier()(pixels(split)).detach(), split.labels[:, 0]
    found = measured.classification[0]
    assert found.top1.value == pytest.approx(float((log_p.argmax(1) == labels).double().mean()))
    assert found.nll == pytest.approx(float(-log_p.gather(1, labels[:, None]).mean()), abs=1e-6)
    assert found.top1.low < found.top1.value < found.top1.high
    assert (found.n, found.classes, measured.n, measured.unlabelled) == (60, 10, 60, 0)
    assert measured.distortion[0].mean == pytest.approx(found.nll, abs=1e-6)
    assert measured.distortion[0].unit == "nats"
    posterior = posteriors(model, split, CPU)
    assert measured.rate == rate_interval(posterior)
    assert measured.latents == latents(posterior)
    assert measured.rate.exact.nats <= measured.rate.exact.cap == math.log(60)
    assert measured.settings["seed"] == 0
    assert measured.settings["precision"] == "fp32"


def test_pixel_distortion_is_summed_and_agrees_with_training():
    recipe, info, model = digits(recipe="digits_multi_task")
    split = synthetic(info, 40).test
    measured = evaluate(model, recipe, info, split, device=CPU)
    objective = build_objective(recipe, info)
    images, labels = pixels(split), split.labels
    _, terms = objective(model.eval(), [images], labels, torch.zeros(40, 3))
    for distortion in measured.distortion:
        assert distortion.mean == pytest.approx(
            float(terms[f"distortion/{distortion.task}"]), rel=1e-5
        )
    assert [d.unit for d in measured.distortion] == ["nats", "squared error"]
    assert measured.distortion[1].n == 40


def test_sampled_distortion_is_its_expectation_within_its_error():
    recipe, info, model = digits("model.sigma_shift=-2")
    split = synthetic(info, 60).test
    many = [
        evaluate(model, recipe, info, split, device=CPU, seed=s).distortion[0].sampled
        for s in range(20)
    ]
    posterior, labels = posteriors(model, split, CPU), split.labels[:, 0]
    noise = torch.randn(2000, 60, 3, generator=generator("draws"))
    logits = model.decode((posterior.mu + posterior.sigma * noise).flatten(0, 1))["cross_entropy"]
    expected = float(torch.nn.functional.cross_entropy(logits, labels.repeat(2000)).detach())
    values = torch.tensor(many)
    assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / math.sqrt(20)
    assert len(set(many)) == 20


def test_an_image_is_measured_alike_whatever_its_neighbours():
    _, info, model = digits()
    split = synthetic(info, 300).test
    whole, few = (
        posteriors(model, split, CPU),
        posteriors(model, split.select(torch.arange(256, 300)), CPU),
    )
    assert torch.equal(whole.mu[256:], few.mu)
    assert torch.equal(whole.sigma[256:], few.sigma)


def test_evaluation_sees_the_very_posteriors_that_encoding_gives(tmp_path):
    recipe, info, model = digits()
    save_model(tmp_path / "model.safetensors", model, weights_metadata(recipe, info, CPU, 0))
    encoded = load(tmp_path / "model.safetensors").encode("digits:test")
    data = open_split(recipe, info).split
    mu, sigma = posteriors(model, data, CPU)
    assert torch.equal(mu, torch.from_numpy(encoded.mean))
    assert torch.equal(2 * sigma.log(), torch.from_numpy(encoded.log_variance))


def test_the_noise_of_an_image_does_not_depend_on_the_batch():
    _, _, model = digits()
    whole = noise_of(7, 0, 600, model)
    parts = [noise_of(7, first, min(20, 600 - first), model) for first in range(0, 600, 20)]
    assert torch.equal(whole, torch.cat(parts))


def test_results_do_not_depend_on_how_the_split_is_read():
    class Streamed:
        """The same images, one fetch at a time, as a streamed folder gives them."""

        def __init__(self, inner):
            self.inner, self.labels, self.ids = inner, inner.labels, inner.ids

        def __len__(self):
            return len(self.inner)

        def fetch(self, order, batch_size, key, train):
            for rows in order.split(batch_size):
                yield torch.cat([next(self.inner.fetch(row[None], 1, key, train)) for row in rows])

    kept = torch.arange(300)
    plain = measure(split=lambda info: synthetic(info, 300).test)
    assert plain == measure(split=lambda info: Streamed(synthetic(info, 300).test))
    assert plain == measure(split=lambda info: synthetic(info, 300).test.select(kept))


def test_the_seed_moves_only_what_is_sampled():
    one, other = measure(seed=0), measure(seed=1)
    assert one == measure(seed=0)
    assert one.classification == other.classification
    assert one.distortion[0].mean == other.distortion[0].mean
    assert one.distortion[0].sampled != other.distortion[0].sampled
    assert one.rate.exact.nats != other.rate.exact.nats


@pytest.mark.parametrize("stochastic", [True, False])
def test_progress_counts_images_then_rows(stochastic):
    done = []
    overrides = [] if stochastic else ["model.stochastic=false", "objective.alpha=0"]
    measure(*overrides, n=300, progress=done.append)
    assert sum(done) == 300 * (2 if stochastic else 1)


def test_a_deterministic_encoder_has_no_rate_and_says_so():
    measured = measure("model.stochastic=false", "objective.alpha=0")
    assert measured.rate is None
    assert measured.training_rate is None
    assert measured.rate_note.startswith("not defined: the encoder is deterministic (z = mu)")
    assert measured.latents.relative_sigma == 0
    assert measured.distortion[0].sampled == measured.distortion[0].mean


def hide(labels, keep):
    return torch.where(torch.arange(len(labels))[:, None] < keep, labels, -1)


def test_unlabelled_images_count_in_the_rate_only():
    def half(info):
        split = synthetic(info, 60).test
        return split.relabel(hide(split.labels, 20))

    measured = measure(split=half)
    assert (measured.n, measured.unlabelled, measured.classification[0].n) == (60, 40, 20)
    assert measured.rate == measure().rate


def test_without_labels_only_rate_and_latents_are_left():
    def none(info):
        split = synthetic(info, 60).test
        return split.relabel(hide(split.labels, 0))

    measured = measure(split=none)
    assert (measured.classification, measured.distortion, measured.unlabelled) == ((), (), 60)
    assert measured.rate == measure().rate


@pytest.mark.parametrize("q", ["bank", "mixture", "vamp"])
def test_a_learned_q_is_not_made_up_again(q):
    measured = measure(f"objective.rate={{q: {q}}}")
    assert measured.training_rate is None
    assert measured.training_rate_note.startswith("not measured: q was learned in training")
    assert measure().training_rate_note is None


def test_the_pairwise_rate_of_training_bounds_the_information_within_its_batches():
    found = measure("objective.rate={q: pairwise}", n=16)
    assert (found.training_rate.bound, found.training_rate.estimand) == ("upper", "I_B")
    exact = found.rate.exact
    assert exact.nats - 4 * exact.standard_error < found.training_rate.nats <= math.log(16)


def test_the_rate_of_training_does_not_depend_on_the_order_of_images():
    """Ten classes far apart, in the order of class folders: a batch of 64 tells its own classes
    apart, whose entropy in it is log 10 less (10 - 1) / (2 * 64) in the mean.
    """
    mu = 20 * torch.eye(10)[torch.arange(1280) // 128]
    recipe = load_recipe("digits", ["train.batch_size=64"]).recipe
    q = DiagonalGaussian(mu, torch.ones_like(mu))
    found = evaluation._training_rate(RATES["batch"](10), recipe, build_info(recipe), q, 0)
    assert found is not None
    assert found.nats == pytest.approx(math.log(10) - 9 / 128, abs=0.03)


@pytest.mark.parametrize(
    ("q", "bound"), [("batch", "lower"), ("fitted", "upper"), ("fixed", "upper")]
)
def test_the_rate_of_training_lies_on_its_side_of_the_exact_rate(q, bound):
    measured = measure(f"objective.rate={{q: {q}}}", n=200)
    found, exact = measured.training_rate, measured.rate.exact
    assert (found.q, found.bound, found.estimand) == (q, bound, "I_N")
    assert found.cap == (math.log(16) if q == "batch" else None)
    # Far from saturation an in-batch mean falls short of I_N; both carry noise.
    slack = 4 * exact.standard_error
    assert found.nats < exact.nats + slack if bound == "lower" else found.nats > exact.nats - slack


def test_the_rate_of_training_is_of_the_batches_that_training_made():
    """Of 60 images one batch is made, however many it may hold."""
    found = measure("train.batch_size=512", "objective.rate={q: batch}", n=200).training_rate
    assert found.cap == math.log(60) and found.nats <= found.cap


def test_active_dimensions_do_not_depend_on_scale():
    mu = torch.randn(500, 3, generator=generator("mu")) * torch.tensor([1.0, 1e-3, 0.2])
    sigma = torch.tensor([0.1, 1.0, 1.0]).expand(500, 3)  # ratios .99, 1e-6, .04
    found = latents(DiagonalGaussian(mu, sigma))
    assert (found.dimensions, found.active) == (3, 2)
    scaled = latents(DiagonalGaussian(1000 * mu, 1000 * sigma))
    assert scaled.active == 2
    assert scaled.relative_sigma == pytest.approx(found.relative_sigma, rel=1e-5)
    assert found.relative_sigma == pytest.approx(0.7 / math.sqrt((1 + 0.04) / 3), rel=0.1)
    assert latents(DiagonalGaussian(torch.ones(4, 2), torch.ones(4, 2))).relative_sigma is None


def test_a_model_that_diverged_is_named():
    recipe, info, model = digits()
    with torch.no_grad():
        model.mu.bias.fill_(math.nan)
    with pytest.raises(ParadiseError, match="diverged"):
        evaluate(model, recipe, info, synthetic(info, 5).test, device=CPU)


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_images_have_no_rate_and_say_so(n):
    measured = measure("objective.alpha=0", n=n)
    assert (measured.rate, measured.rate_note) == (None, "not defined for fewer than 4 images")


def test_json_has_bits_and_no_surprise():
    measured = measure()
    value = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert value["rate"]["exact"]["bits"] == pytest.approx(
        value["rate"]["exact"]["nats"] / math.log(2)
    )
    assert value["rate"] == json.loads(json.dumps(measured.rate.to_json()))
    assert measure("model.stochastic=false", "objective.alpha=0").to_json()["rate"] is None
    assert value["classification"][0]["top1"].keys() == {"value", "low", "high"}


def test_small_distortions_are_not_rounded_away(capsys):
    found = measure(n=60, recipe="digits_unsupervised")
    tiny = dataclasses.replace(
        found.distortion[0], unit="squared error", sampled=1.2345e-3, mean=4.2e-7
    )
    small = dataclasses.replace(found, distortion=(tiny,))
    print_evaluation(small)
    shown = capsys.readouterr().out
    assert "0.001234" in shown and "4.200e-07" in shown
    assert "distortion 4.200e-07 squared error" in small.title(digits()[0])


def test_title_names_data_n_alpha_rate_and_accuracy():
    recipe, _, _ = digits()
    measured = measure(n=60)
    title = measured.title(recipe)
    for part in (
        "digits",
        "n = 60",
        f"alpha = {recipe.objective.alpha:g}",
        f"rate {measured.rate.population}",
    ):
        assert part in title
    assert "accuracy" in title
    recipe, _, _ = digits(recipe="digits_unsupervised")
    assert "squared error" in measure(recipe="digits_unsupervised").title(recipe)


def test_validation_scores_and_leaves_every_mode_as_it_was():
    recipe, info, model = digits(recipe="digits_multi_task")
    split = synthetic(info, 40).validation
    model.train()
    model.heads.eval()
    modes = [module.training for module in model.modules()]
    found = validation_of({"plain": model}, build_objective(recipe, info), split, CPU)()
    assert [module.training for module in model.modules()] == modes
    measured = evaluate(model, recipe, info, split, device=CPU)
    accuracy = measured.classification[0].top1.value
    weighted = sum(
        task.weight * found.metrics[f"distortion/{task.name}"]
        for task in build_objective(recipe, info).tasks
    )
    assert found.scores == {"plain": (accuracy, -weighted)}
    assert found.metrics["accuracy/classify"] == accuracy
    for distortion in measured.distortion:
        assert found.metrics[f"distortion/{distortion.task}"] == pytest.approx(
            distortion.mean, rel=1e-12
        )


def test_validation_without_classes_scores_by_distortion():
    recipe, info, model = digits(recipe="digits_unsupervised")
    objective = build_objective(recipe, info)
    validate = validation_of({"plain": model}, objective, synthetic(info, 40).validation, CPU)
    found = validate()
    (score,) = found.scores["plain"]
    assert score == -found.metrics["distortion/squared_error"] < 0
    halved = dataclasses.replace(objective.tasks[0], weight=0.5)
    objective.tasks = (halved,)
    assert validate().scores["plain"][0] == pytest.approx(score / 2)


def test_evaluation_leaves_the_gradients_of_training_possible():
    recipe, info, model = digits()
    measure_first = validation_of(
        {"plain": model}, build_objective(recipe, info), synthetic(info, 8).validation, CPU
    )
    measure_first()
    images = torch.rand(4, 1, 8, 8)
    model(images, torch.zeros(4, 3))[1].sum().backward()
    assert model.mu.weight.grad is not None


def description(classes=("a", "b", "c"), shape=(1, 8, 8), name="digit", more=()):
    return DataInfo(
        "other", shape, (Target(name, tuple(classes)), *more), 9, Preprocessing(1, 8, (8, 8))
    )


def test_labels_follow_the_models_classes_and_targets():
    labels = torch.tensor([[0, 1], [2, 0], [-1, 1]])
    data = description(more=(Target("size", ("small", "large")),))
    model = DataInfo(
        "own", (1, 8, 8), (Target("size", ("large", "small")), Target("digit", ("c", "a", "b"))), 9,
        Preprocessing(1, 8, (8, 8)),
    )  # fmt: skip
    found, notes = fit_labels(labels, data, model)
    assert found.tolist() == [[0, 1], [1, 0], [0, -1]]
    assert notes == []


def test_a_lone_target_is_matched_whatever_its_name():
    found, notes = fit_labels(torch.tensor([[0], [2]]), description(name="kind"), description())
    assert (found.tolist(), notes) == ([[0], [2]], [])


def test_other_class_names_are_noted():
    found, notes = fit_labels(torch.tensor([[0], [2]]), description(("w", "x", "y")), description())
    assert found.tolist() == [[0], [2]]
    assert "'x' of other is class 1 of the model, 'b'" in notes[0]


def test_data_without_labels_are_unlabelled():
    data = dataclasses.replace(description(), targets=())
    found, notes = fit_labels(torch.empty(4, 0, dtype=torch.int64), data, description())
    assert found.tolist() == [[-1]] * 4
    assert "no labels of 'digit'" in notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (description(("x", "y")), "other has 2 classes of 'digit', the model tells 3 apart"),
        (description(shape=(3, 8, 8)), "other has images 3x8x8, the model reads 1x8x8"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_one_message(data, message):
    with pytest.raises(ParadiseError, match=message):
        fit_labels(torch.zeros(2, 1, dtype=torch.int64), data, description())


def test_the_split_is_that_of_the_recipe():
    recipe, info, _ = digits()
    sizes = {
        name: len(open_split(recipe, info, split=name).split)
        for name in ("train", "validation", "test")
    }
    assert sizes == {"train": 1293, "validation": 144, "test": 360}
    assert open_split(recipe, info).label == "digits, test"
    half = open_split(recipe, info, split="validation", overrides=["data.validation=0.5"])
    assert len(half.split) == round(1437 / 2)


def test_one_image_is_no_collapse(weights):
    """It has one mean of z, whatever the encoder does, also where it is there twice; and one label,
    which no constant answer could beat.
    """
    one, two = (weights.with_name(f"{name}.npz") for name in ("one", "two"))
    image = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    np.savez(one, images=image, labels=[3])
    np.savez(two, images=np.repeat(image, 2, 0), labels=[3, 3])
    assert "warning: " not in run(weights, "--data", one).output
    shown = run(weights, "--data", two).output
    assert "warning: all images are one and the same" in shown and "collapsed" not in shown


def test_a_part_of_images_that_have_changed_is_not_taken_for_what_was_held_out(
    tmp_path, monkeypatch
):
    """Of one image more, other images are held out: the model has learned from some of them."""
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for number in range(41):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    path.rename(tmp_path / "one more.png")
    chosen = ["data={name: image_folder, size: 8, channels: 1, validation: 0.25}"]
    chosen += [f"data.root={tmp_path / 'photos'}", "train.epochs=1"]
    given = [word for each in chosen for word in ("--set", each)]
    train = ["train", "digits", *given, "--out", str(tmp_path / "run"), "--device", "cpu"]
    done = CliRunner().invoke(app, train)
    assert done.exit_code == 0, done.stderr
    splits = [("--split", "validation"), ("--split", "train")]
    for split in splits:
        assert "since the training" not in run(tmp_path / "run", *split).stderr
    (tmp_path / "one more.png").rename(path)
    for split in splits:
        found = run(tmp_path / "run", *split)
        changed = "photos has changed since the training (training images: 30 -> 31)"
        assert found.exit_code == 0 and changed in found.stderr
    # Of other data the model has learned nothing, wherever they lie.
    copied = shutil.copytree(tmp_path / "photos", tmp_path / "copied")
    assert "since the training" not in run(tmp_path / "run", "--data", copied).stderr
    # Of its own it has, wherever they lie now: what was held out is the same ten of 40.
    (copied / path.relative_to(tmp_path / "photos")).unlink()
    found = run(tmp_path / "run", "--data", copied)
    assert found.exit_code == 1
    assert "copied, which the model learned from, has no test split" in found.stderr
    for named in (["--data", copied], ["--set", f"data.root={copied}"]):
        held_out = run(tmp_path / "run", *named, "--split", "validation").stdout
        assert "copied, validation: 10 images" in held_out


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"split": "tset"}, UsageError, "no split 'tset'; did you mean 'test'"),
        ({"data": "digit"}, UsageError, "did you mean 'digits'"),
        ({"overrides": ["train.epochs=3"]}, UsageError, "only data can be changed"),
        ({"overrides": ["data.rot=x"]}, RecipeError, "--set data.rot=x: data.rot: unknown"),
        ({"overrides": ["data.validation=2"]}, RecipeError, "--set data.validation=2"),
        (
            {"split": "validation", "overrides": ["data.validation=0"]},
            ParadiseError,
            "no validation split",
        ),
    ],
)
def test_data_that_cannot_be_had_are_named(options, kind, message):
    recipe, info, _ = digits()
    with pytest.raises(kind, match=message):
        open_split(recipe, info, **options)


@pytest.fixture
def weights(tmp_path):
    recipe, info, model = digits()
    path = tmp_path / "model.safetensors"
    metadata = {"recipe": recipe.resolved(), "data": info.to_json(), "provenance": {"step": 0}}
    save_model(path, model, metadata)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--device", "cpu"])


def test_the_command_prints_a_table_for_people(weights):
    result = run(weights)
    assert result.exit_code == 0, result.output
    for word in (
        "digits, test: 360 images",
        "accuracy",
        "top-5",
        "ECE",
        "rate I(X;Z)",
        "exact rate",
        "bits",
        "active dimensions",
    ):
        assert word in result.stdout


def test_the_command_prints_one_json_document_and_writes_it(weights, tmp_path):
    result = run(weights, "--json", "--split", "validation", "--out", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value == json.loads((tmp_path / "e.json").read_text())
    assert (value["n"], value["data"]) == (144, "digits, validation")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--split", "nowhere"], 2, "no split 'nowhere'"),
        (["--set", "data.rooot=x"], 2, "data.rooot: unknown"),
        (["--data", "image_folder"], 1, "data.root"),
    ],
)
def test_mistakes_end_in_one_message(weights, arguments, code, message):
    result = run(weights, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_class_count_that_does_not_match_ends_in_one_message(weights, tmp_path):
    save_images(tmp_path / "photos", 9)
    changes = ["--set", f"data.root={tmp_path / 'photos'}", "--set", "data.validation=0"]
    result = run(weights, "--data", "image_folder", "--split", "train", *changes)
    assert result.exit_code == 1
    assert "photos has 2 classes of 'class', the model tells 10 apart" in result.stderr


def test_the_passes_have_one_shape(monkeypatch):
    """What makes the numbers independent of batching: every forward pass sees as many rows."""
    recipe, info, model = digits()
    seen = []
    encode = type(model).encode
    monkeypatch.setattr(
        type(model), "encode", lambda self, x: seen.append(len(x)) or encode(self, x)
    )
    evaluate(model, recipe, info, synthetic(info, 300).test, device=CPU)
    assert seen == [64] * 5  # as many as in encoding, for images of 8x8
