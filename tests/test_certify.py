"""Certificates: never above the truth, kept over a stop, and the same however they are computed."""

import csv
import itertools
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor
from typer.testing import CliRunner, Result

from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.journal import Journal
from paradise_cli.core.proportions import lower_bound
from paradise_cli.core.randomness import generator
from paradise_cli.evaluation.certificate_files import save_certification
from paradise_cli.evaluation.certificates import (
    LARGEST_SIGMA,
    Certification,
    CertifySettings,
    Votes,
    certificate,
    radius_of,
    round_step,
)
from paradise_cli.evaluation.certify import certify, certify_with
from paradise_cli.evaluation.lattice_noise import (
    STEPS,
    lattice_normal,
    noisy,
    sampling_error,
    to_lattice,
)
from tests.tiny_model import save_tiny

SHAPE = (1, 2, 3)
WEIGHT = torch.tensor([1.5, -2.0, 0.5, 1.0, -1.0, 3.0])
SIGMA = 0.25
VOTES = 2000
FEW = CertifySettings(sigma=SIGMA, samples=150, n0=20)


def linear(images: Tensor) -> Tensor:
    """Two classes, divided by the plane through the grey image."""
    score = (images.flatten(1) - 0.5) @ WEIGHT
    return torch.stack([score, -score], 1)


def points(n: int, seed: int = 0) -> Tensor:
    """8-bit images."""
    draw = generator(seed, "points")
    return torch.randint(256, (n, *SHAPE), generator=draw, dtype=torch.uint8)


def true_radius(images: Tensor) -> Tensor:
    """How far an image lies from the plane: of the smoothed classifier too, by symmetry."""
    return ((images.flatten(1).double() / 255 - 0.5) @ WEIGHT.double()).abs() / WEIGHT.norm()


def three(images: Tensor) -> Tensor:
    """Three classes by the first three pixels, and a few answers that are no number."""
    logits = images.flatten(1)[:, :3].clone()
    return logits.where(logits[:, :1] > -0.5, torch.nan)


def found_by(classifier: Function, n: int = 8, **options: Any) -> Certification:
    return certify_with(FEW, classifier, points(n), torch.arange(n) % 2, **options)


def test_a_linear_classifier_is_certified_up_to_its_true_radius_and_never_beyond() -> None:
    images = points(200)
    labels = linear(images / 255).argmax(1)
    found = certify(linear, images, labels, sigma=SIGMA, samples=VOTES)
    for image, truth in zip(found.images, true_radius(images).tolist(), strict=True):
        assert image.radius < truth
        # As close as so many votes allow: fewer of them come once in 10^9 images.
        votes = binom.ppf(1e-9, VOTES, radius_to_probability(truth))
        assert image.radius >= radius_of(lower_bound(int(votes), VOTES, 0.001), SIGMA) - 1e-6
    assert found.clean_accuracy.value == 1
    assert max(image.radius for image in found.images) <= found.largest_radius


def radius_to_probability(radius: float) -> float:
    return 0.5 * math.erfc(-radius / SIGMA / math.sqrt(2))


def test_on_the_boundary_it_abstains() -> None:
    grey = torch.full((30, *SHAPE), 0.5)
    # Different images on the plane have different noise: 1.5 * 8 steps balance 2 * 6.
    grey[:, 0, 0, 0] += torch.arange(30) * 8 / STEPS
    grey[:, 0, 0, 1] += torch.arange(30) * 6 / STEPS
    found = certify(linear, grey, torch.zeros(30, dtype=torch.int64), sigma=SIGMA, samples=1000)
    assert all(image.abstains and image.radius == 0 for image in found.images)
    assert found.abstained.value == 1 and found.certified_accuracy(0).value == 0


@pytest.mark.parametrize("n", [1, 10, 100, 400])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_is_too_high_no_more_often_than_alpha_exactly(n: int, alpha: float) -> None:
    bounds = np.array([lower_bound(k, n, alpha) for k in range(n + 1)])
    # The bounds themselves are where it is tightest: just below one, it is missed.
    grid = np.concatenate([np.linspace(0.001, 0.999, 97), bounds[1:] * (1 - 1e-9), bounds[1:]])
    for p in grid.tolist():
        missed = math.fsum(probability(k, n, p) for k in range(n + 1) if bounds[k] > p)
        assert missed <= alpha * (1 + 1e-6)
    # And no lower than it must be: at each bound so many votes or more have probability alpha.
    for k in range(1, n + 1):
        tail = math.fsum(probability(j, n, float(bounds[k])) for j in range(k, n + 1))
        assert tail == pytest.approx(alpha, rel=1e-6)


def probability(k: int, n: int, p: float) -> float:
    """Of k successes in n trials."""
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def test_a_certificate_is_the_formula() -> None:
    settings = CertifySettings(sigma=0.5, samples=10_000, alpha=0.001)

    def of(votes: Votes, error: float = 0.0, moved: float = 0.0) -> tuple[int, float, float]:
        found = certificate("a", 1, votes, settings, error=error, moved=moved)
        return found.guess, found.p_lower, found.radius

    # All votes: alpha^(1/N) = 0.99931, and Cohen et al. have 3.2 sigma for it.
    p = 0.001 ** (1 / 10_000)
    guess, p_lower, radius = of(Votes({1: 60, 2: 40}, {1: 10_000}))
    assert guess == 1 and p_lower == pytest.approx(p, rel=1e-12)
    assert radius == pytest.approx(0.5 * float(mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)))
    # What the sampling may add, and what the image was moved by, are taken away.
    assert of(Votes({1: 100}, {1: 10_000}), error=0.1)[1] == pytest.approx(p - 0.1)
    assert of(Votes({1: 100}, {1: 10_000}), moved=0.1)[2] == pytest.approx(radius - 0.1)
    # The guess is from votes of its own: a class that comes to lead later is not certified.
    assert of(Votes({0: 51, 1: 49}, {1: 9_000, 0: 1_000}))[::2] == (0, 0.0)
    # Of two equals the first; and no class where no answer was a number.
    assert of(Votes({2: 50, 1: 50}, {1: 10_000}))[0] == 1
    assert of(Votes({}, {})) == (0, 0.0, 0.0)


def test_what_is_certified_at_a_radius_withstands_changes_of_that_length() -> None:
    votes = Votes({0: 20}, {0: 150})
    held = certificate("a", 0, votes, FEW, error=0.0, moved=0.0)
    other = certificate("b", 1, votes, FEW, error=0.0, moved=0.0)  # of another class
    found = Certification((held, other), found_by(linear, 2).clean_accuracy, FEW, {})
    assert found.certified_accuracy(0.0).value == 0.5
    assert found.certified_accuracy(held.radius * (1 - 1e-9)).value == 0.5
    # At the radius itself the two best classes may be equally probable.
    assert found.certified_accuracy(held.radius).value == 0
    assert held.radius == pytest.approx(found.largest_radius)
    radii = [radius for radius, _ in found.curve()]
    assert radii[0] == 0 and len(radii) <= 41 and max(radii) <= held.radius


@pytest.mark.parametrize(
    ("least", "step"), [(0.02, 0.025), (0.025, 0.025), (0.16, 0.25), (0.3, 0.5), (0.64, 1.0)]
)
def test_curves_have_round_radii(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


def test_noise_is_normal_and_rounded_to_the_lattice() -> None:
    # With a standard deviation of one step the cells are few, and their probabilities exact.
    noise = lattice_normal(1 / STEPS, 5, torch.arange(2000), 500)
    assert noise.dtype == torch.float64 and torch.equal(noise, noise.round())
    for step in range(-5, 6):
        p = 0.5 * (math.erf((step + 0.5) / math.sqrt(2)) - math.erf((step - 0.5) / math.sqrt(2)))
        count = int((noise == step).sum())
        assert abs(count - 1e6 * p) < 5 * math.sqrt(1e6 * p) + 5
    # Draws and pixels are apart.
    wide = lattice_normal(SIGMA, 5, torch.arange(200), 50) / STEPS
    assert wide.std() == pytest.approx(SIGMA, rel=0.03)
    assert torch.corrcoef(wide)[0, 1:].abs().max() < 0.6
    assert torch.corrcoef(wide.T)[0, 1:].abs().max() < 0.3


def test_a_draw_depends_on_key_and_number_alone() -> None:
    steps, _ = to_lattice(points(1)[0] / 255)
    draws = torch.arange(40)
    whole = noisy(steps, SIGMA, 7, draws)
    assert torch.equal(noisy(steps, SIGMA, 7, draws[30:]), whole[30:])
    assert not torch.equal(noisy(steps, SIGMA, 8, draws), whole)
    # The noise is that of any image, and is not clipped.
    black = noisy(torch.zeros_like(steps), SIGMA, 7, draws)
    assert torch.equal((whole * STEPS).round() - steps, (black * STEPS).round())
    assert whole.min() < 0 and whole.max() > 1


def test_8_bit_images_are_on_the_lattice_and_others_lose_what_they_are_moved_by() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    given = levels.float().div(255)
    steps, moved = to_lattice(given)
    assert torch.equal(steps.flatten(), torch.arange(256).double() * 16)
    assert moved == 0
    # The classifier sees the very float that it sees without noise.
    assert torch.equal(noisy(steps, 1e-9, 0, torch.arange(2))[1], given)
    off = torch.full((1, 2, 2), 100.25 / STEPS)
    assert to_lattice(off)[1] == pytest.approx(2 * 0.25 / STEPS, rel=1e-3)
    lost = [certify(linear, x, torch.zeros(1, dtype=torch.int64), sigma=SIGMA).images[0].radius
            for x in (torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), 0.25 / STEPS))]  # fmt: skip
    # The noise differs as well, being keyed by the image: a few times its error.
    assert lost[0] - lost[1] == pytest.approx(math.sqrt(6) * 0.25 / STEPS, abs=0.02)


def test_sums_are_exact_for_every_sigma_that_is_allowed() -> None:
    edge = float(mpmath.erfinv(1 - mpmath.mpf(2) ** -53) * mpmath.sqrt(2))
    assert (1 + edge * LARGEST_SIGMA) * STEPS + 1 < 2**24
    with pytest.raises(ParadiseError, match="write 64/255"):
        CertifySettings(sigma=64)


def test_torch_inverts_the_error_function_as_exactly_as_the_proof_assumes() -> None:
    """A relative error of 2^-50, up to the last odd multiple of 2^-53 below 1."""
    draw = np.random.default_rng(0)
    tails = [2**53 - 2 * k - 1 for k in range(30)]
    tails += [int(2**53 * (1 - 10.0**-e)) | 1 for e in draw.uniform(0.01, 15, 150)]
    centre = [int(2 ** draw.uniform(0, 52.9)) | 1 for _ in range(150)]
    odd = np.array(tails + centre)
    given = torch.from_numpy(odd).double() * 2.0**-53
    with mpmath.workprec(120):
        for k, value in zip(odd.tolist(), given.erfinv().tolist(), strict=True):
            true = mpmath.erfinv(mpmath.mpf(k) / 2**53)
            assert abs(value / true - 1) < 2.0**-50
    assert sampling_error(0.25, 3 * 224 * 224) < 1e-6


@pytest.mark.parametrize("width", [7, 64, 170, 500])
def test_votes_do_not_depend_on_the_batch_size(width: int) -> None:
    usual = found_by(three)
    assert found_by(three, width=width).images == usual.images
    assert 0 < usual.certified_accuracy(0).value < 1 or usual.abstained.value > 0


def test_votes_depend_on_the_image_and_not_on_its_neighbours() -> None:
    images, labels = points(8), torch.zeros(8, dtype=torch.int64)
    whole = certify_with(FEW, three, images, labels).images
    part = certify_with(FEW, three, images[5:], labels[5:]).images
    assert [replace(image, id="") for image in part] == [replace(i, id="") for i in whole[5:]]
    seed = certify_with(replace(FEW, seed=1), three, images, labels).images
    assert [image.votes for image in seed] != [image.votes for image in whole]


def test_clipping_is_a_part_of_the_classifier() -> None:
    images, labels = points(8), torch.zeros(8, dtype=torch.int64)
    clipped = certify_with(replace(FEW, clip=True), linear, images, labels)
    own = certify_with(FEW, lambda x: linear(x.clamp(0, 1)), images, labels)
    assert clipped.images == own.images != certify_with(FEW, linear, images, labels).images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": "0.25"}, "sigma is a number, as 0.25, not '0.25'"),
        ({"sigma": None}, "sigma is a number, as 0.25, not None"),
        ({"alpha": "x"}, "alpha is a number, as 0.001, not 'x'"),
        ({"out": 5}, r"out must be text \(a path\), not 5"),
        ({"images": None}, "images of type NoneType cannot be read as one array"),
        ({"labels": ["a", "b"]}, "labels of type text"),
    ],
)
def test_arguments_of_another_type_are_one_message(given: dict[str, Any], message: str) -> None:
    given = {"images": points(2), "labels": torch.arange(2), "sigma": SIGMA, **given}
    with pytest.raises(ParadiseError, match=message):
        certify(linear, samples=150, n0=20, **given)


def test_numbers_and_a_folder_may_be_given_as_anything_that_means_them(tmp_path: Path) -> None:
    images = (points(2) / 255).numpy().astype(">f4")
    labels = np.arange(2, dtype=">i4")
    given: dict[str, Any] = {"samples": 150, "n0": 20, "out": str(tmp_path / "run")}
    numbers: list[Any] = [SIGMA, np.float64(SIGMA), torch.tensor(SIGMA)]
    # One journal, which is refused for another sigma.
    found = [certify(linear, images, labels, sigma=sigma, **given) for sigma in numbers]
    assert found[0].images == found[1].images == found[2].images
    assert json.dumps(found[2].to_json())


def test_stopped_anywhere_it_goes_on_to_the_same_files(tmp_path: Path) -> None:
    save(found_by(three, out=tmp_path / "whole"), tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    assert len(expected) == 4
    # Looked at first, and then asked for one batch after another.
    alive = itertools.chain(itertools.repeat(True, 40), [False], itertools.repeat(True))

    def dying(images: Tensor) -> Tensor:
        if not next(alive):
            raise KeyboardInterrupt
        return three(images)

    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        found_by(dying, out=folder, width=16)
    ledger = folder / "ledger.jsonl"
    kept = ledger.read_bytes().count(b"\n") - 1
    assert 0 < kept < 8
    seen: list[int] = []
    found_by(dying, out=folder, width=16, progress=seen.append)
    # What was known is told at once, and counts in whole.
    assert seen[0] == kept * 170 and sum(seen) == 8 * 170
    # Cut off in the middle of a line, as a killed process leaves it.
    whole = (tmp_path / "whole" / "ledger.jsonl").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "ledger.jsonl").write_bytes(whole[: len(whole) * 2 // 3])
    save(found_by(three, out=folder), folder)
    assert contents(folder) == expected


def save(found: Certification, folder: Path) -> None:
    save_certification(found, folder, found.to_json())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_certification_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    found_by(three, out=tmp_path)
    before = contents(tmp_path)
    images, labels = points(8), torch.arange(8) % 2
    # A hair of sigma is another one: its rounding is no excuse.
    for other, named in (
        (replace(FEW, sigma=0.2501), r"sigma \(0.25, now 0.2501\):"),
        (replace(FEW, n0=21, seed=1), r"n0 \(20, now 21\), seed \(0, now 1\):"),
    ):
        message = f"holds another certification, with other {named}"
        with pytest.raises(UsageError, match=message):
            certify_with(other, three, images, labels, out=tmp_path)
    with pytest.raises(ParadiseError, match="with other classifier"):
        found_by(linear, out=tmp_path)
    assert contents(tmp_path) == before
    certify_with(replace(FEW, seed=1), three, images, labels, out=tmp_path, fresh=True)
    assert contents(tmp_path) != before


@pytest.mark.parametrize("older", [False, True])
def test_another_alpha_judges_the_votes_on_record(older: bool, tmp_path: Path) -> None:
    """Older versions wrote alpha into the header."""
    images, labels = points(8), torch.arange(8) % 2
    found_by(three, out=tmp_path)
    path = tmp_path / "ledger.jsonl"
    if older:
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps({**json.loads(header), "alpha": "0.5"}), *lines, ""]))
    votes = path.read_bytes()
    other, seen = replace(FEW, alpha=0.01), list[int]()
    found = certify_with(other, three, images, labels, out=tmp_path, progress=seen.append)
    assert path.read_bytes() == votes and seen == [8 * 170]
    anew = certify_with(other, three, images, labels)
    assert found.images == anew.images and found.settings.alpha == 0.01
    assert found.images != certify_with(FEW, three, images, labels).images


def test_a_journal_that_is_in_use_or_damaged_is_refused(tmp_path: Path) -> None:
    first = Journal(tmp_path, "ledger", {"a": 1}, "certification")
    with pytest.raises(ParadiseError, match="in use by another certification"):
        Journal(tmp_path, "ledger", {"a": 1}, "certification")
    first.add({"b": 2})
    first.close()
    again = Journal(tmp_path, "ledger", {"a": 1}, "certification")
    assert again.entries == [{"b": 2}]
    again.close()
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write("[1]\n")
    with pytest.raises(ParadiseError, match="is damaged in line 3"):
        Journal(tmp_path, "ledger", {"a": 1}, "certification")


BALLOTS = [
    "{}", '{"guess": {}}', '{"guess": [1], "bound": {}}', '{"guess": {"x": 1}, "bound": {}}',
    '{"guess": {"0": 1.5}, "bound": {}}', '{"guess": {"0": 1e400}, "bound": {}}',
    '{"guess": {"0": -1}, "bound": {}}', '{"guess": {"-1": 1}, "bound": {}}',
    '{"guess": {"0": 21}, "bound": {}}', '{"guess": {}, "bound": {"0": 100, "1": 51}}',
    '{"guess": {"3": 1}, "bound": {}}', '{"guess": {}, "bound": {"3": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("ballot", BALLOTS)
def test_votes_that_nobody_can_have_cast_are_refused(ballot: str, tmp_path: Path) -> None:
    """Of 20 and 150 votes for three classes; as older versions wrote them, without a digest."""
    found_by(three, n=1, out=tmp_path)
    path = tmp_path / "ledger.jsonl"
    header = path.read_text().splitlines()[0]
    path.write_text(f"{header}\n{ballot}\n")
    with pytest.raises(ParadiseError, match="is damaged in line 2"):
        found_by(three, n=1, out=tmp_path)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 2, 3], [0, 1, 2, 3, 3]])
def test_the_votes_on_an_image_are_those_of_its_line(order: list[int], tmp_path: Path) -> None:
    found_by(three, n=3, out=tmp_path)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{lines[number]}\n" for number in order))
    with pytest.raises(ParadiseError, match="is damaged in line"):
        found_by(three, n=3, out=tmp_path)


def test_votes_of_an_older_version_are_kept_and_no_more_than_there_are_images(
    tmp_path: Path,
) -> None:
    expected = found_by(three, n=3, out=tmp_path)
    path = tmp_path / "ledger.jsonl"
    header, *lines = map(json.loads, path.read_text().splitlines())
    older = [{"guess": line["guess"], "bound": line["bound"]} for line in lines]
    path.write_text("".join(json.dumps(each) + "\n" for each in [header, *older]))
    assert found_by(three, n=3, out=tmp_path).images == expected.images
    path.write_text("".join(json.dumps(each) + "\n" for each in [header, *older, older[0]]))
    with pytest.raises(ParadiseError, match="is damaged in line 5"):
        found_by(three, n=3, out=tmp_path)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_pipe_in_place_of_a_journal_is_not_waited_for(fresh: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ledger.jsonl")
    with pytest.raises(ParadiseError, match="is a pipe or a device"):
        found_by(three, n=1, out=tmp_path, fresh=fresh)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda x: linear(x + torch.rand_like(x)), "answers at random"),
        (lambda x: linear(x) - linear(x).mean(0), "depends on the others in its batch"),
        (lambda x: linear(x)[:, :1], r"gives logits \[N, 1\], and two or more are needed"),
    ],
)
def test_what_is_no_function_to_classes_has_no_certificate(
    classifier: Function, message: str
) -> None:
    with pytest.raises(ParadiseError, match=message):
        found_by(classifier)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small model and images for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    save_tiny(tmp_path / "tiny.safetensors")
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (6, 1, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(6) % 3)
    Path("own_certified.py").write_text(
        "from torch import nn\nimport torch\n"
        "def load():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval()\n"
    )
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["certify", *map(str, arguments)])


FAST = ("--samples", 60, "--n0", 10, "--data", "data.npz")


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("model", ["tiny.safetensors", "own_certified:load"])
def test_one_json_document_a_table_and_a_picture(folder: Path, model: str) -> None:
    done = run(model, "--sigma", "64/255", *FAST, "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads(Path("out/certificate.json").read_text())
    assert (found["data"], found["n"], found["norm"]) == ("data.npz", 6, "l2")
    assert found["settings"]["sigma"] == 64 / 255 and found["settings"]["machine"]["torch"]
    assert Path("out/certificate.png").read_bytes().startswith(b"\x89PNG")
    with Path("out/certificate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(row) for row in range(6)]
    for row in rows:
        bound = lower_bound(int(row["votes"]), 60, 0.001)
        assert float(row["p_lower"]) == pytest.approx(bound, abs=1e-6)
        assert (row["predicted"] == "") == (float(row["radius"]) == 0)
        assert row["correct"] == str(row["predicted"] == row["label"])
    for point in found["curve"]:
        held = [row["correct"] == "True" and float(row["radius"]) > point["radius"] for row in rows]
        assert point["certified_accuracy"]["value"] == pytest.approx(sum(held) / 6)
    # Another of the same model goes to a folder of its own.
    for given in ([], ["--clip"], ["--n0", 9], ["--alpha", 0.01]):
        assert run(model, "--sigma", "64/255", *FAST, *given).exit_code == 0
    # But for alpha, of which votes know nothing.
    assert len(list(Path("certified").iterdir())) == 3
    again = run(model, "--sigma", "64/255", *FAST, "--out", "out")
    assert again.exit_code == 0 and "smoothed classifier" in again.stdout
    assert found == json.loads(Path("out/certificate.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma", "0"], "sigma must be a number above 0, not 0"),
        (["--sigma", "-0.25"], "sigma must be a number above 0, not -0.25"),
        (["--sigma", "nan"], "--sigma nan: not a number"),
        (["--sigma", "inf"], "--sigma inf: not a number"),
        (["--sigma", "64"], "for 64 levels of 8 bits write 64/255"),
        (["--sigma", "0.25", "--samples", "99"], "samples must be at least n0 = 100, not 99"),
        (["--sigma", "0.25", "--n0", "0"], "n0 must be a whole number from 1 to 10,000,000, not 0"),
        (["--sigma", "0.25", "--alpha", "0"], "alpha must lie between 0 and 1, not 0"),
        (["--sigma", "0.25", "--alpha", "1"], "alpha must lie between 0 and 1, not 1"),
        (["--sigma", "0.25", "--n", "0"], "--n must be at least 1, not 0"),
        (["--sigma", "0.25", "--samples", "9", "--n0", "1"], "at least 10 are needed"),
    ],
)
def test_bad_input_is_one_message_before_data_are_read(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = run("tiny.safetensors", "--data", "missing.npz", *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == "" and done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert not Path("certified").exists()
