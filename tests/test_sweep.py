"""Sweeps: what they plan, how they run and go on, and what they say of the result."""

import copy
import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.locks import Busy, locked
from paradise_cli.core.parent import WATCHED
from paradise_cli.objective.distortions import DISTORTIONS, Distortion
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.train import train
from paradise_cli.sweep import data as sweep_data
from paradise_cli.sweep.axes import alpha_axis, parse_axis
from paradise_cli.sweep.plan import SweepPoint, plan
from paradise_cli.sweep.processes import Running
from paradise_cli.sweep.run import (
    FinishedRun,
    _to_do,
    _Waiting,
    environments,
    finished_run,
    run_points,
)
from paradise_cli.sweep.summary import components_cap, summarise
from paradise_cli.theory.exact_curves import exact_curve
from paradise_cli.training.loop import Reporter
from paradise_cli.training.run_folder import RunFolder

WAITING = """
import time
from paradise_cli.core.signals import end_tidily
with end_tidily():
    print("ready", flush=True)
    time.sleep(600)
"""
FAST = [
    "train.epochs=2",
    "data.validation=0.0",
    "model.latent_dim=3",
]  # three latents are not drawn


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("objective.rate.q=batch, fitted", ("batch", "fitted")),
        ("optim.lr=1e-3:1e-1:3", ("0.001", "0.01", "0.1")),
        ("model.backbone.hidden=[64],[64,32]", ("[64]", "[64,32]")),
        ("data.augment=[],[{name: crop, padding: 1}]", ("[]", "[{name: crop, padding: 1}]")),
        (
            "a.b={name: mlp, hidden: [64]},{name: conv}",
            ("{name: mlp, hidden: [64]}", "{name: conv}"),
        ),
    ],
)
def test_an_axis_is_read(text: str, values: tuple[str, ...]) -> None:
    assert parse_axis(text).values == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("optim.lr", "write key=value,value"),
        ("=1,2", "write key=value,value"),
        ("optim.lr=1,1", "1 comes twice"),
        ("optim.lr=1,,2", "a value is missing"),
        ("optim.lr=0:1:3", "not a list of numbers > 0"),
    ],
)
def test_an_axis_that_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_axis(text)


@pytest.mark.parametrize("text", ["", "0,1", "1:2", "a", "-1:1:3"])
def test_alphas_are_numbers_above_zero(text: str) -> None:
    with pytest.raises(UsageError, match="--alpha"):
        alpha_axis(text)


def test_the_plan_is_every_combination() -> None:
    axes = [alpha_axis("0.1:0.4:3"), parse_axis("objective.rate={q: batch},{q: fitted}")]
    points = plan("digits", axes, seeds=2, overrides=["train.seed=5"])
    assert len(points) == len({point.name for point in points}) == 12
    assert points[0].name == "alpha=0.1,rate=q_batch"  # the first seed: a sweep may get more later
    assert points[1].name == "alpha=0.1,rate=q_batch,seed=6"
    assert {point.recipe.train.seed for point in points} == {5, 6}
    assert {point.recipe.objective.alpha for point in points} == {0.1, 0.2, 0.4}
    assert {point.group[0][1] for point in points} == {"{q: batch}", "{q: fitted}"}


def test_values_whose_names_would_be_alike_are_numbered() -> None:
    points = plan("digits", [parse_axis("data.augment=[],[ ]")])
    assert [point.name for point in points] == ["1,augment=", "2,augment="]


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ([], "nothing to sweep"),
        (["objective.alpha=1,2", "objective.alpha=3"], "swept twice: objective.alpha"),
        (["objective.alhpa=1,2"], "alhpa.*did you mean 'alpha'"),
        (["train.epochs=1,many"], "--set train.epochs=many"),
        (["train.epochs=1:9:40", "optim.lr=1:9:40"], "1,600 trainings; at most 1,000"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(axes: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        plan("digits", [parse_axis(text) for text in axes])


def command(folder: Path, *arguments: str) -> list[str]:
    """A small sweep of the digits in `folder`."""
    fast = [text for override in FAST for text in ("--set", override)]
    return ["sweep", "digits", *fast, *arguments, "--out", str(folder)]


def sweep(folder: Path, *arguments: str, code: int = 0) -> str:
    """What it says."""
    done = CliRunner().invoke(app, command(folder, *arguments))
    assert done.exit_code == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep over two alphas."""
    folder = tmp_path_factory.mktemp("sweep")
    text = sweep(folder, "--alpha", "0.1,1")
    assert "D + R >= H(Y)" in text and "monotone" in text
    return folder


@pytest.fixture
def folder(swept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(swept, tmp_path / "copy"))


def runs(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    return result


def test_a_sweep_delivers_table_plane_and_verdict(swept: Path) -> None:
    assert [row["run"] for row in runs(swept)] == ["alpha=0.1", "alpha=1"]
    result = result_of(swept)
    (frontier,) = result["frontiers"]
    assert frontier["label_entropy"] == pytest.approx(
        math.log(10), abs=0.01
    )  # 36 images a class, nearly
    assert [point["alpha"] for point in frontier["points"]] == [0.1, 1.0]
    assert result["failed"] == []
    assert (swept / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_a_sweep_is_an_ordinary_run(swept: Path) -> None:
    run = swept / "points" / "alpha=1"
    recipe = load_recipe(str(run / "recipe.yaml")).recipe
    # What a recipe leaves to the machine is stored as decided: an MLP has no layout to choose.
    asked = [*FAST, "objective.alpha=1", "train.channels_last=false"]
    assert recipe == load_recipe("digits", asked).recipe
    test = json.loads((run / "result.json").read_text())["test"]
    assert float(runs(swept)[1]["rate"]) == test["rate"]["exact"]["nats"]


def test_a_sweep_goes_on_and_trains_nothing_twice(folder: Path) -> None:
    shutil.rmtree(folder / "points" / "alpha=1")
    weights = folder / "points" / "alpha=0.1" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    kept = result_of(folder)
    sweep(folder, "--alpha", "0.1,1")
    assert weights.stat().st_mtime_ns == before
    assert result_of(folder) == kept


def test_a_sweep_of_another_recipe_is_refused(folder: Path) -> None:
    text = sweep(folder, "--alpha", "0.1", "--set", "train.batch_size=32", code=2)
    assert "train.batch_size: 64 -> 32" in text


def test_points_that_were_trained_on_other_data_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sweep_data.identity
    changed = {"images": 7, "sha256": "another"}
    monkeypatch.setattr(sweep_data, "identity", lambda data: known(data) | changed)
    before = (folder / "sweep.csv").read_bytes()
    text = sweep(folder, "--alpha", "0.1,1,2", code=2)
    assert "alpha=0.1 was trained on other data:\n  training images: 1,437 -> 7\n" in text
    assert (folder / "sweep.csv").read_bytes() == before
    # Nor are points compared that were measured on other images.
    monkeypatch.setattr(sweep_data, "identity", lambda data: known(data) | {"test": None})
    text = sweep(folder, "--alpha", "0.1,1,2", code=2)
    assert "alpha=0.1 was trained on other data:\n  test images: 360 -> 0\n" in text


def test_a_point_that_diverges_leaves_the_others(folder: Path) -> None:
    text = sweep(folder, "--alpha", "0.1", "--grid", "optim.lr=0.005,1e18", code=1)
    assert "failed: alpha=0.1,lr=1e18" in text and "not finite" in text
    good, bad = runs(folder)
    assert good["error"] == "" and float(good["distortion"]) > 0
    assert "not finite" in bad["error"] and bad["distortion"] == ""


@pytest.mark.usefixtures("pictures")
def test_another_split_is_measured_without_training_again(folder: Path) -> None:
    kept = {name: (folder / name).read_bytes() for name in ("sweep.csv", "sweep.json")}
    sweep(folder, "--alpha", "0.1", "--split", "train")
    result = json.loads((folder / "sweep-train.json").read_text())
    assert (result["split"], result["n"]) == ("train", 1437)
    assert (folder / "sweep-train.csv").exists() and (folder / "frontier-train.png").exists()
    assert kept == {name: (folder / name).read_bytes() for name in kept}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "nothing to sweep"),
        (("--alpha", "1,2", "--split", "tset"), "did you mean 'test'"),
        (("--alpha", ""), "it is empty"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in sweep(tmp_path / "s", *arguments, code=2)
    assert not (tmp_path / "s").exists()


def test_collapse_is_named_and_a_range_suggested(swept: Path) -> None:
    """A finished point, its rate set to nearly nothing and to nearly log N."""
    evaluation = json.loads((swept / "points" / "alpha=1" / "result.json").read_text())["test"]
    low, high = copy.deepcopy(evaluation), copy.deepcopy(evaluation)
    low["rate"]["exact"]["nats"] = 0.01
    low["latents"]["active"] = 0
    high["rate"]["exact"]["nats"] = math.log(360) - 0.05
    points = plan("digits", [alpha_axis("0.001,1000")], overrides=FAST)
    outcomes = [FinishedRun(p, swept, e) for p, e in zip(points, (high, low), strict=True)]
    warnings = "\n".join(summarise(outcomes, "test").warnings)
    assert "alpha=1000: collapsed, the rate is 0.010 nats" in warnings
    assert "alpha=1000: 0 of 3 dimensions are active" in warnings
    assert "alpha=0.001: the rate is at its cap log N = 5.89" in warnings
    assert "alpha=0.001: rate 5.84 nats > log(components) - 2 = 2.16" in warnings
    assert "try --alpha 0.001:1e+03:9" in warnings


@pytest.mark.parametrize(
    ("rate", "cap"),
    [
        ("{q: batch}", math.log(64)),
        ("{q: bank, size: 1000}", math.log(1064)),
        ("{q: fitted}", math.inf),
    ],
)
def test_the_cap_of_a_recipe_is_that_of_its_components(rate: str, cap: float) -> None:
    recipe = load_recipe("digits", [f"objective.rate={rate}"]).recipe
    assert components_cap(recipe) == pytest.approx(cap)


@pytest.mark.parametrize(
    ("rate", "cap"), [("{q: batch}", math.log(90)), ("{q: bank, size: 1000}", math.log(180))]
)
def test_of_fewer_images_than_a_batch_the_cap_is_that_of_training(
    rate: str, cap: float, tmp_path: Path
) -> None:
    small = ["data.n=100", "data.validation=0.1", "train.batch_size=512", "train.epochs=1"]
    recipe = load_recipe("gaussian_source", [*small, f"objective.rate={rate}"]).recipe
    train(recipe, out=tmp_path, device="cpu", report=Reporter())
    (record,) = RunFolder(tmp_path).records()
    assert record["rate_cap"] == components_cap(recipe) == pytest.approx(cap)


def test_known_sources_have_their_exact_curve() -> None:
    recipe = load_recipe("gaussian_source").recipe
    curve = exact_curve(recipe)
    variances = torch.tensor(recipe.data.hyper["variances"], dtype=torch.float64)
    level = 0.1
    expected = float(0.5 * (variances / variances.clamp(max=level)).log().sum())
    assert curve is not None
    low, high = curve.bounds(float(variances.clamp(max=level).sum()))
    assert low == high == pytest.approx(expected)
    assert exact_curve(load_recipe("digits").recipe) is None


def test_recipes_of_one_source_share_one_curve() -> None:
    """Of equal total variance they are still told apart."""
    first, same, other = (
        exact_curve(load_recipe("gaussian_source", overrides).recipe)
        for overrides in ([], ["objective.alpha=1"], ["data.variances=[15.9375]"])
    )
    assert first == same and first != other


@pytest.mark.parametrize(
    ("recipe", "distortion", "rate"),
    [
        ("bernoulli_source", "{name: bernoulli}", 0.6108643 - 0.1),  # h(0.3) - D
        ("bernoulli_source", "{name: absolute_error}", 0.6108643 - 0.3250830),  # h(0.3) - h(D)
        ("laplacian_source", "{name: absolute_error, link: identity}", math.log(10)),
    ],
)
def test_closed_forms_at_a_distortion_of_a_tenth(recipe: str, distortion: str, rate: float) -> None:
    curve = exact_curve(load_recipe(recipe, [f"objective.tasks.0.distortion={distortion}"]).recipe)
    assert curve is not None
    assert curve.bounds(0.1) == pytest.approx((rate, rate))


def evaluated(
    alpha: float, rate: float, *, tasks: dict[str, float], **labels: Any
) -> dict[str, Any]:
    """An evaluation of 100 images: distortion by task, each with a standard error of a tenth."""
    nats = {"nats": rate, "standard_error": 0.01, "cap": math.log(100), "bits": rate / math.log(2)}
    ends = {"lower": rate - 0.03, "upper": rate + 0.03}
    return {
        "data": "made", "n": 100, "classification": [], "latents": {"active": 2, "dimensions": 2},
        "distortion": [
            {"task": name, "unit": "nats", "sampled": value, "sampled_error": 0.1 * value}
            for name, value in tasks.items()
        ],
        "rate": {"exact": nats, "population": ends, "empirical": ends},
    } | labels  # fmt: skip


def test_tasks_are_weighed_by_their_names() -> None:
    """Where one applies to no image, D is not known; it is not the other's."""
    recipe = load_recipe("digits_multi_task").recipe
    point = SweepPoint("one", {}, recipe)
    both = evaluated(1.0, 2.0, tasks={"redraw": 10.0, "classify": 0.5})
    result = summarise([FinishedRun(point, Path(), both)], "test")
    (measured,) = result.frontiers[0].points
    assert measured.distortion == pytest.approx(0.5 + 0.5 * 10.0)
    assert measured.distortion_error == pytest.approx(0.05 + 0.5 * 1.0)
    with pytest.raises(ParadiseError, match="no labels of classify"):
        summarise([FinishedRun(point, Path(), evaluated(1.0, 2.0, tasks={"redraw": 10.0}))], "test")


@pytest.mark.parametrize(
    ("distortion", "entropy"),
    [
        ("{name: cross_entropy}", 0.69),
        ("{name: cross_entropy, label_smoothing: 0.1}", None),
        # A supervised loss of the user's own may be anything.
        ("{name: zero_one}", None),
    ],
)
def test_only_of_a_cross_entropy_it_is_said_that_d_plus_r_is_at_least_the_labels_entropy(
    distortion: str, entropy: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zero_one() -> Distortion:
        return Distortion(lambda output, images, labels: output[:, 0], supervised=True)

    monkeypatch.setattr(DISTORTIONS, "_factories", DISTORTIONS._factories | {"zero_one": zero_one})
    task = f"objective.tasks=[{{name: a, distortion: {distortion}, head: {{name: linear}}}}]"
    recipe = load_recipe("digits", [task]).recipe
    labels = {"top1": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 10, "label_entropy": 0.69}
    evaluation = evaluated(1.0, 0.1, tasks={"a": 0.2}) | {"n": 10, "classification": [labels]}
    (run,) = [FinishedRun(SweepPoint("one", {}, recipe), Path(), evaluation)]
    (frontier,) = summarise([run], "test").frontiers
    assert frontier.entropy == entropy
    assert any(check.verdict == "violated" for check in frontier.checks) == (entropy is not None)


def test_points_train_no_frontier_of_their_own() -> None:
    points = plan("photos", [alpha_axis("0.1,1")], overrides=["data.root=photos"])
    assert load_recipe("photos").recipe.train.frontier
    assert [list(point.recipe.train.frontier) for point in points] == [[], []]


def test_the_spread_of_seeds_counts_as_students_t_asks() -> None:
    """D = 1, 2, 3 under three seeds: mean 2, standard error 1 / sqrt(3); t = 19.21 is as rare as 3
    sigma.
    """
    points = plan("digits_unsupervised", [alpha_axis("1")], seeds=3)
    outcomes = [
        FinishedRun(point, Path(), evaluated(1.0, 2.0, tasks={"squared_error": value}))
        for point, value in zip(points, (1.0, 2.0, 3.0), strict=True)
    ]
    (measured,) = summarise(outcomes, "test").frontiers[0].points
    assert measured.distortion == pytest.approx(2.0)
    assert measured.distortion_error == pytest.approx(
        math.hypot(0.3, 19.2060 / 3 / math.sqrt(3)), rel=1e-4
    )


def test_the_squared_lagrangian_gives_up_two_alpha_r_a_nat() -> None:
    for rate, slope in ((2.0, 4.0 * 3.0), (-1e-9, 0.0)):
        (point,) = plan(
            "digits_unsupervised", [alpha_axis("3")], overrides=["objective.lagrangian=squared"]
        )
        evaluation = evaluated(3.0, rate, tasks={"squared_error": 1.0})
        finished = [FinishedRun(point, Path(), evaluation)]
        (measured,) = summarise(finished, "test").frontiers[0].points
        assert measured.slope == pytest.approx(slope)


@pytest.mark.parametrize(
    ("gpus", "visible", "device", "jobs", "expected"),
    [
        (0, None, "auto", None, ["OMP_NUM_THREADS=2"] * 4),
        (0, None, "cpu", 2, ["OMP_NUM_THREADS=4"] * 2),
        (2, None, "auto", None, ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]),
        (2, "3,5", "cuda", 3, [f"CUDA_VISIBLE_DEVICES={n}" for n in (3, 5, 3)]),
        (2, None, "cpu", None, ["OMP_NUM_THREADS=2"] * 4),
        (2, None, "cuda:1", None, [""]),
    ],
)
def test_every_run_gets_its_share_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    visible: str | None,
    device: str,
    jobs: int | None,
    expected: list[str],
) -> None:
    """Four runs on eight cores."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    given = environments(4, device, jobs)
    assert [",".join(f"{key}={value}" for key, value in each.items()) for each in given] == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_point_whose_training_was_killed_says_so(tmp_path: Path, number: int) -> None:
    killed = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE)
    assert killed.stdout is not None and killed.stdout.readline() == b"ready\n"
    killed.send_signal(number)
    killed.communicate()
    with job_of(tmp_path, killed, "note: the data are read\n") as job:
        assert job.reason == f"killed by signal {number}"


@contextmanager
def job_of(folder: Path, process: "subprocess.Popen[bytes]", said: str) -> Iterator[Running]:
    """A process of a point that has ended, and what it said in its log."""
    process.wait()
    point = SweepPoint("a", {}, load_recipe("digits").recipe)
    with (folder / "log.txt").open("w+b") as log:
        log.write(said.encode())
        yield Running(point, RunFolder(folder), process, 0, log)


def ended(code: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])


def test_a_point_that_was_stopped_says_that_it_goes_on(tmp_path: Path) -> None:
    with job_of(tmp_path, ended(75), "stopped: at step 3 of 9\n") as job:
        assert "the same command goes on" in job.reason


def test_an_exit_code_that_is_no_signal_leaves_the_last_message(tmp_path: Path) -> None:
    said = "error: an older one\nerror: a (os error: 28)\nmend it\n"
    with job_of(tmp_path, ended(255), said) as job:
        assert job.reason == "a (os error: 28)\nmend it" and not job.found_taken


def test_a_point_that_another_process_had_is_begun_again(tmp_path: Path) -> None:
    """However often: whoever had it may have been stopped before it was asked whether it has it."""
    with pytest.raises(Busy) as taken, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(RunFolder(tmp_path).locked())
    waiting = _Waiting([], "test", "cpu", None)
    with job_of(tmp_path, ended(1), f"error: {taken.value}\n") as job:
        # Another process of the point writes a log of its own.
        (tmp_path / "log.txt").unlink()
        (tmp_path / "log.txt").write_text("stopped: at step 40\n")
        assert job.found_taken and all(waiting.goes_on(job) for _ in range(5))


def test_a_process_ends_with_its_parent_however_that_ends() -> None:
    """The pipe that is its stdin closes with the parent, also when that is killed."""
    program = (
        "import signal, time; from paradise_cli.core.parent import end_with_parent\n"
        "end_with_parent(); print('ready', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {WATCHED: "1"},
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == b"ready\n" and child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=60) == -signal.SIGTERM
    child.stdout.close()


def test_a_second_sweep_in_a_folder_is_refused(folder: Path) -> None:
    kept = (folder / "sweep.json").read_bytes()
    with locked(folder, "sweep", "sweep"):
        assert "another sweep is running in" in sweep(folder, "--alpha", "0.1", code=1)
    assert (folder / "sweep.json").read_bytes() == kept


def test_workers_share_the_points_and_outlive_one_that_is_killed(tmp_path: Path) -> None:
    grid = ["--alpha", "0.1,0.3,1,3"]
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    sweep(whole, *grid)
    words = [*command(shared, *grid), "--worker", "--jobs", "1"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "paradise_cli", *map(str, words)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )
        for _ in range(3)
    ]  # fmt: skip
    # A plain sweep does not work among them.
    while not list(shared.glob("points/*/metrics.jsonl")):
        time.sleep(0.05)
        assert all(each.poll() is None for each in workers)
    assert "another sweep is running in" in sweep(shared, *grid, code=1)
    workers[1].kill()
    said = [each.communicate(timeout=120)[1] for each in workers]
    assert [workers[0].returncode, workers[2].returncode] == [0, 0], said
    # Points are trained once: of what somebody else has trained there is nothing to do.
    assert all(len(run.read_text().splitlines()) == 2 for run in shared.rglob("metrics.jsonl"))
    measured = [
        [{key: row[key] for key in ("run", "distortion", "rate", "error")} for row in runs(each)]
        for each in (whole, shared)
    ]
    assert measured[0] == measured[1] and len(measured[0]) == 4


def trainings_of(worker: "subprocess.Popen[bytes]") -> set[int]:
    """Processes that a sweep has started, and that have not ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == worker.pid and state != "Z":
                found.add(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")
def test_a_killed_training_goes_on_and_ends_with_its_killed_worker(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ["--alpha", "0.1", "--set", "train.epochs=40", "--set", "train.checkpoint_minutes=0.001"]
    sweep(whole, *more)
    metrics = killed / "points" / "alpha=0.1" / "metrics.jsonl"
    words = [sys.executable, "-m", "paradise_cli", *command(killed, *more), "--worker"]

    def epochs() -> int:
        return metrics.read_text().count("\n") if metrics.exists() else 0

    def trained(worker: "subprocess.Popen[bytes]", least: int) -> int:
        while epochs() < least or not trainings_of(worker):
            assert worker.poll() is None
            time.sleep(0.02)
        return trainings_of(worker).pop()

    worker = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    first = trained(worker, 5)
    os.kill(first, signal.SIGKILL)
    while first in trainings_of(worker):
        time.sleep(0.02)
    second = trained(worker, epochs() + 5)
    worker.kill()
    worker.wait()
    while Path(f"/proc/{second}/cmdline").exists() and Path(f"/proc/{second}/cmdline").read_text():
        time.sleep(0.02)
    assert not (killed / "sweep.json").exists() and epochs() < 40
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    records = metrics.read_text().splitlines()
    assert [json.loads(record)["epoch"] for record in records] == [*range(1, 41)]
    assert (killed / "sweep.json").read_bytes() == (whole / "sweep.json").read_bytes()
    weights = [folder / "points" / "alpha=0.1" / "model.safetensors" for folder in (killed, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_training_that_is_killed_each_time_is_a_point_that_failed(tmp_path: Path) -> None:
    killed = subprocess.Popen(["sleep", "600"])
    killed.kill()
    killed.wait()
    waiting = _Waiting([], "test", "cpu", None)
    with job_of(tmp_path, killed, "") as job:
        assert [waiting.goes_on(job) for _ in range(5)] == [True, True, True, False, False]
    with job_of(tmp_path, ended(1), "error: something\n") as job:
        assert not _Waiting([], "test", "cpu", None).goes_on(job)


def test_a_point_that_somebody_trains_is_waited_for(folder: Path) -> None:
    """Its result comes while the sweep waits; nothing is trained here, and its log stays."""
    run = RunFolder(folder / "points" / "alpha=1")
    log, result = run.path / "log.txt", run.result.read_bytes()
    log.write_text("somebody else's")
    run.result.unlink()
    points = plan("digits", [alpha_axis("0.1,1")], overrides=FAST)
    told: list[str] = []
    with ExitStack() as other:
        other.enter_context(run.locked())

        def say(text: str) -> None:
            told.append(text)
            run.result.write_bytes(result)
            other.close()

        finished = run_points(points, folder, device="cpu", say=say)
    assert told == ["alpha=1: another process trains it; waiting for that"]
    assert [each.error for each in finished] == [None, None]
    assert log.read_text() == "somebody else's"


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 10_000])
def test_a_damaged_result_is_measured_again(folder: Path, text: str) -> None:
    run = RunFolder(folder / "points" / "alpha=1")
    run.result.write_text(text)
    assert (_to_do(run, "test", "cpu") or [""])[0] == "train"
    run.result.write_text('{"test": null}')
    assert _to_do(run, "test", "cpu") is None
    (point,) = plan("digits", [alpha_axis("1")])
    assert "holds no measurement" in (finished_run(point, run, "test").error or "")
    (run.path / "evaluation-train.json").write_text(text)
    assert "--overwrite" in (_to_do(run, "train", "cpu") or [])


def test_a_result_of_another_recipe_is_none(folder: Path) -> None:
    run, other = (RunFolder(folder / "points" / name) for name in ("alpha=1", "alpha=0.1"))
    assert _to_do(run, "test", "cpu") is None
    mine = run.result.read_text()
    run.result.write_bytes(other.result.read_bytes())
    assert (_to_do(run, "test", "cpu") or [""])[0] == "train"
    # As where a point's recipe is gone, and that of another sweep was written in its place.
    run.result.write_text(mine)
    run.recipe.write_bytes(other.recipe.read_bytes())
    assert (_to_do(run, "test", "cpu") or [""])[0] == "train"
    # Older versions did not say of which recipe a result is.
    result = json.loads(mine)
    del result["recipe_sha256"]
    run.result.write_text(json.dumps(result))
    assert _to_do(run, "test", "cpu") is None


@pytest.mark.parametrize(
    "change",
    [
        {"distortion": "x"}, {"distortion": [1]}, {"latents": None},
        {"rate": {}}, {"rate": [1]}, {"n": None, "classification": [{"top1": {}, "n": 1}]},
        {"classification": [3]},
    ],
)  # fmt: skip
def test_an_edited_measurement_is_a_point_that_failed(folder: Path, change: dict[str, Any]) -> None:
    points = plan("digits", [alpha_axis("0.1,1")], overrides=FAST)
    finished = [
        finished_run(point, RunFolder(folder / "points" / point.name), "test") for point in points
    ]
    assert finished[1].evaluation is not None
    edited = replace(finished[1], evaluation=finished[1].evaluation | change)
    found = summarise([finished[0], edited], "test")
    ((name, reason),) = found.failed
    assert name == "alpha=1" and "result.json" in reason and len(found.frontiers[0].points) == 1


def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    more = ("--alpha", "0.1,1", "--jobs", "2", "--set", "train.epochs=20")
    process = subprocess.Popen(
        [sys.executable, "-m", "paradise_cli", *command(tmp_path, *more)],
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = [tmp_path / "points" / f"alpha={alpha}" / "metrics.jsonl" for alpha in ("0.1", "1")]
    while not all(file.exists() and file.read_text() for file in metrics):
        with pytest.raises(subprocess.TimeoutExpired):  # it goes on
            process.wait(timeout=0.1)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on" in process.communicate()[1] and process.returncode == 130
    assert not any((file.parent / "result.json").exists() for file in metrics)
    stopped = [len(file.read_text().splitlines()) for file in metrics]
    sweep(tmp_path, *more)
    for file, before in zip(metrics, stopped, strict=True):
        assert before < len(file.read_text().splitlines()) == 20
        assert "going on from step" in (file.parent / "log.txt").read_text()
