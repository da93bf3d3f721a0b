"""The loop: exact resumption, run folders, signals, alarms and non-finite losses."""

import itertools
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer
from paradise_cli.core import locks, temporary
from paradise_cli.core.errors import Interrupted, ParadiseError, UsageError
from paradise_cli.core.locks import Busy
from paradise_cli.core.signals import end_tidily
from paradise_cli.core.storage import load_tensors
from paradise_cli.models.weights import read_model
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.runs.estimate import dry_run, planned_epochs
from paradise_cli.runs.train import train
from paradise_cli.training import loop
from paradise_cli.training.checkpoint import Checkpoints, NonFinite, State
from paradise_cli.training.loop import Reporter
from paradise_cli.training.optim import OPTIMIZERS, SCHEDULES
from paradise_cli.training.run_folder import RunFolder

SMALL = [
    "model.backbone.hidden=[16]",
    "model.latent_dim=3",
    "optim.schedule.name=constant",
    "train.epochs=3",
    "train.batch_size=100",
    "train.precision=fp32",
]
CHANNELS_LAST = ("model.backbone={name: preact_resnet, depth: 8}", "train.channels_last=true")
STEPS = 3 * (1293 // 100)  # 1,437 training images less a validation tenth


class Listener(Reporter):
    """Remembers."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.said: list[str] = []

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def say(self, text: str) -> None:
        self.said.append(text)


def recipe(*overrides: str) -> Recipe:
    return load_recipe("digits", [*SMALL, *overrides]).recipe


def run(folder: Path, *overrides: str, **options: Any) -> Listener:
    listener = Listener()
    train(recipe(*overrides), out=folder, device="cpu", report=listener, **options)
    return listener


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_model(folder / "model.safetensors")[0]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.usefixtures("saved_each_epoch")
def test_a_run_folder_holds_exactly_these_files(tmp_path: Path) -> None:
    listener = run(tmp_path / "run", "model.latent_dim=2")
    files = sorted(
        str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()
    )
    assert files == [
        ".lock",
        "checkpoints/best.safetensors",
        f"checkpoints/step-{STEPS // 3 * 2:09d}.safetensors",
        f"checkpoints/step-{STEPS:09d}.safetensors",
        "confusion.png",
        "curves.png",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "posterior.png",
        "recipe.yaml",
        "result.json",
    ]
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [STEPS // 3, STEPS // 3 * 2, STEPS]
    assert lines == listener.records
    assert all(0 <= line["train"]["rate"] <= math.log(100) for line in lines)


@pytest.mark.parametrize(("seconds", "saves"), [(0.0, 3), (1e9, 1)])
def test_short_epochs_share_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, saves: int
) -> None:
    monkeypatch.setattr(loop, "EPOCH_SECONDS", seconds)
    counted, save = [], Checkpoints.save

    def counting(self: Checkpoints, state: State, *rest: Any) -> None:
        counted.append(state.step)
        save(self, state, *rest)

    monkeypatch.setattr(Checkpoints, "save", counting)
    run(tmp_path)
    assert len(counted) == saves and counted[-1] == STEPS


def test_the_same_command_after_the_end_changes_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    # As where it was killed between its last rename and the removal of what it had written to.
    left = [tmp_path / name for name in (".a.0123abcd.tmp", "checkpoints/.b.0123abcd.tmp")]
    for folder in left:
        folder.mkdir()
    monkeypatch.setattr(temporary, "_swept", set())  # as in the next process
    assert run(tmp_path).records == []
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not any(folder.exists() for folder in left)


@pytest.mark.parametrize(
    ("optimizer", "q", "more"),
    [
        *itertools.product(sorted(OPTIMIZERS), ["batch", "fitted"], [()]),
        *itertools.product(["adamw"], ["bank, size: 150", "mixture", "vamp, components: 5"], [()]),
        # What is kept must come back as the weights lie in memory.
        *itertools.product(sorted(OPTIMIZERS), ["fitted"], [CHANNELS_LAST]),
    ],
)
def test_stopping_at_any_step_and_going_on_changes_no_bit(
    tmp_path: Path, optimizer: str, q: str, more: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [
        *more,
        f"optim={{name: {optimizer}, lr: 0.01, schedule: one_cycle, clip: 1.0}}",
        f"objective.rate={{q: {q}}}",
    ]
    run(tmp_path / "whole", *chosen)
    rng = random.Random(0)
    observe = State.observe
    for stop in sorted(rng.sample(range(1, STEPS), 3)):

        def interrupt(self: State, terms: dict[str, torch.Tensor], at: int = stop) -> None:
            observe(self, terms)
            if self.step + 1 == at:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(State, "observe", interrupt)
        with pytest.raises(Interrupted, match=f"at step {stop} of {STEPS}"):
            run(tmp_path / "parts", *chosen)
    monkeypatch.setattr(State, "observe", observe)
    run(tmp_path / "parts", *chosen)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    metrics = [
        [
            {**json.loads(line), "seconds": 0}
            for line in (tmp_path / part / "metrics.jsonl").read_text().splitlines()
        ]
        for part in ("whole", "parts")
    ]
    assert metrics[0] == metrics[1]
    last = f"checkpoints/step-{STEPS:09d}.safetensors"
    assert_same(*(load_tensors(tmp_path / part / last)[0] for part in ("whole", "parts")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_measurement_is_stopped_and_the_same_command_measures(
    tmp_path: Path, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*rest: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    with monkeypatch.context() as patch, end_tidily():
        patch.setattr("paradise_cli.runs.train.finish", measure)
        with pytest.raises(Interrupted, match="the same command measures") as stopped:
            run(tmp_path)
    assert stopped.value.exit_code == code
    trained = (tmp_path / "model.safetensors").read_bytes()
    assert run(tmp_path).records == [] and (tmp_path / "result.json").exists()
    assert (tmp_path / "model.safetensors").read_bytes() == trained


def test_the_result_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep does nothing more for a run that has one, so a killed one would lack pictures."""

    def draw(*rest: object) -> None:
        raise Interrupted("killed")

    with monkeypatch.context() as patch:
        patch.setattr("paradise_cli.runs.result._draw", draw)
        with pytest.raises(Interrupted):
            run(tmp_path)
    assert not (tmp_path / "result.json").exists()
    run(tmp_path)
    assert (tmp_path / "result.json").exists() and (tmp_path / "curves.png").exists()


# All that a training may have to remember: views that are crafted, and weights that are averaged.
MATCHED = [
    "views=[image, {name: adversarial, eps: 0.1, loss: posterior}]",
    "objective.matching={distance: l1, gamma: 1, warmup_steps: 20}",
    "train.average={share: 0.2}",
    "train.validate={attack: {eps: 0.1, steps: 2}, images: 50}",
]


# A training process for each line it reads, forked after the slow imports; it tells what happens to
# it.
LIVES = """
import os, sys
from pathlib import Path
import sklearn.datasets, torch._dynamo
from paradise_cli.training import loop
from paradise_cli.training.checkpoint import State
from paradise_cli.runs.train import train
from tests.test_training import MATCHED, Listener, recipe

observe = State.observe
def told(self, terms):
    observe(self, terms)
    print("step", self.step + 1, flush=True)

for _ in sys.stdin:
    if child := os.fork():
        print("born", child, flush=True)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    State.observe = told
    chosen = recipe("train.checkpoint_minutes=1.0e-9", *MATCHED)
    train(chosen, out=Path(sys.argv[1]), device="cpu", report=Listener())
    os._exit(0)
"""


def test_kill_9_at_random_moments_loses_no_bit_and_leaves_no_unreadable_file(
    tmp_path: Path,
) -> None:
    run(tmp_path / "whole", "train.checkpoint_minutes=1.0e-9", *MATCHED)
    folder, rng, ends = tmp_path / "killed", random.Random(1), list[int]()
    with subprocess.Popen(
        [sys.executable, "-c", LIVES, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(5):
            print("live", file=process.stdin, flush=True)
            child, moment = 0, (number + 1) * STEPS // 6 + rng.randrange(4)
            for line in process.stdout:
                what, value = line.split()
                if what == "born":
                    child = int(value)
                elif what == "ended":
                    ends.append(int(value))
                    break
                elif number < 4 and child and int(value) >= moment:
                    assert int(value) < STEPS
                    os.kill(child, signal.SIGKILL)
                    child = 0
            for path in folder.rglob("*.safetensors"):
                load_tensors(path)
    assert ends == [-signal.SIGKILL] * 4 + [0]
    runs = RunFolder(tmp_path / "whole"), RunFolder(folder)
    for which in runs[0].weights:
        assert_same(*(load_tensors(run.weights[which])[0] for run in runs))
    # Also which weights were the best so far, and what the optimiser and the average hold.
    ends_at = f"step-{STEPS:09d}.safetensors"
    (one, of_one), (other, of_other) = (load_tensors(run.checkpoints / ends_at) for run in runs)
    assert_same(one, other)
    assert of_one["state"]["best"] == of_other["state"]["best"]
    assert of_one["state"]["best"].keys() == {"plain", "averaged"}


def test_two_trainings_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(ParadiseError, match="another training is running in"),
    ):
        run(tmp_path)
    run(tmp_path)


def test_a_refused_training_leaves_no_folder_behind(tmp_path: Path) -> None:
    cifar = [f"data={{name: cifar10, root: {tmp_path / 'nowhere'}}}", "model.latent_dim=2"]
    with pytest.raises(ParadiseError, match="nowhere"):
        run(tmp_path / "run", *cifar)
    assert not (tmp_path / "run").exists()
    # What was there, if only as an empty folder, is the user's.
    (tmp_path / "own").mkdir()
    with pytest.raises(ParadiseError, match="nowhere"):
        run(tmp_path / "own", *cifar)
    assert [path.name for path in (tmp_path / "own").iterdir()] == [".lock"]


def test_who_finds_a_folder_taken_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(tmp_path / "run").locked():
        # The other one looked before there was a folder.
        (tmp_path / "run" / "checkpoints").rmdir()
        monkeypatch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(Busy), RunFolder(tmp_path / "run").locked():
            raise AssertionError
        assert os.listdir(tmp_path / "run") == [".lock"]


def test_a_lock_that_was_put_away_since_it_was_opened_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")

    def late(handle: int, busy: str, *, shared: bool) -> None:
        (folder.path / ".lock").unlink()  # as the training that held it does

    monkeypatch.setattr(locks, "take", late)
    with pytest.raises(Busy), folder.locked():
        raise AssertionError


def test_a_changed_recipe_refuses_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"objective\.alpha: .* -> 0\.5\n") as error:
        run(tmp_path, "objective.alpha=0.5")
    assert "--fresh" in str(error.value) and "latent_dim" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("epochs", "steps"), [(0, 0), (1, 36), (4, 48)])
def test_epochs_are_added_until_there_are_enough_steps(
    tmp_path: Path, epochs: int, steps: int
) -> None:
    """12 steps an epoch: 25 are reached by three, which progress over several runs counts on."""
    changes = (f"train.epochs={epochs}", "train.min_steps=25")
    run(tmp_path / "run", *changes)
    assert json.loads((tmp_path / "run/result.json").read_text())["steps"] == steps
    assert 12 * planned_epochs(recipe(*changes)) == steps


def test_fresh_starts_beside_the_old_run(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    run(tmp_path / "run", "objective.alpha=0.5", fresh=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert (
        yaml.safe_load((tmp_path / "run-2" / "recipe.yaml").read_text())["objective"]["alpha"]
        == 0.5
    )


def test_a_command_goes_on_in_the_newest_run_of_its_own_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a recipe whose name is that of a second run."""
    monkeypatch.chdir(tmp_path)

    def folder(name: str, *, fresh: bool = False) -> str:
        chosen = recipe(f"name={name}", "train.epochs=1")
        trained = train(chosen, device="cpu", fresh=fresh, report=Reporter())
        return trained.folder.name

    assert [folder("t"), folder("t-2"), folder("t")] == ["t", "t-2", "t"]
    assert [folder("t", fresh=True), folder("t"), folder("t-2")] == ["t-3", "t-3", "t-2"]
    (Path("runs") / "t-4").mkdir()
    assert folder("t") == "t-3"


def test_a_damaged_recipe_in_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("train: {epochs: 1")
    with pytest.raises(UsageError, match=r"recipe\.yaml:1:\d+"):
        run(tmp_path)


def test_a_setting_that_the_folder_does_not_know_yet_is_its_default(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "recipe.yaml"
    older = yaml.safe_load(path.read_text())
    assert older["objective"].pop("lagrangian") == "linear"
    path.write_text(yaml.safe_dump(older))
    run(tmp_path)
    with pytest.raises(UsageError, match=r"objective\.lagrangian: linear -> squared"):
        run(tmp_path, "objective.lagrangian=squared")


def test_going_on_with_other_threads_warns(tmp_path: Path) -> None:
    run(tmp_path, "train.epochs=0")
    environment = json.loads((tmp_path / "environment.json").read_text())
    (tmp_path / "environment.json").write_text(json.dumps({**environment, "threads": 99}))
    warning, _ = run(tmp_path, "train.epochs=0").said
    assert "threads 99 ->" in warning and "exact only to rounding" in warning
    assert run(tmp_path, "train.epochs=0").said == [f"{tmp_path}: cpu, fp32"]


def test_going_on_with_other_code_warns(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = {"torch": "2", "commit": "a" * 40, "imports": {"mine.heads": "0123"}}
    now = before | {"imports": {"mine.heads": "89ab"}}
    assert folder.begin({}, before, None) is None
    warning = folder.begin({}, now, None)
    assert warning is not None
    assert "(imports {'mine.heads': '0123'} -> {'mine.heads': '89ab'}):" in warning
    assert "began elsewhere" not in warning
    # A folder of an older version does not say which modules they were.
    folder.begin({}, {"torch": "2", "commit": "a" * 40}, None)
    assert folder.begin({}, now, None) is None
    assert "(commit aaa" in (folder.begin({}, now | {"commit": "b" * 40}, None) or "")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParadiseError, match=r"cannot write the run folder .*file/run"):
        run(tmp_path / "file" / "run")


def test_a_non_finite_loss_stops_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(NonFinite, match=r"not finite at step \d+\. Likely cause: .*optim\.lr"):
        run(tmp_path / "bad", "optim={name: sgd, lr: 1.0e+18}")
    checkpoints = list((tmp_path / "bad" / "checkpoints").glob("step-*"))
    assert all(t.isfinite().all() for path in checkpoints for t in load_tensors(path)[0].values())


def test_the_first_bad_term_and_step_are_named() -> None:
    state = State.new(torch.device("cpu"))
    for value in (1.0, math.nan, 1.0):
        state.observe({"rate": torch.tensor(value), "loss": torch.tensor(1.0)})
        state.step += 1
    with pytest.raises(NonFinite, match=r"rate not finite at step 1\..*checkpoint, if one was"):
        state.means(3)


def test_what_is_not_finite_before_the_first_step_is_no_learning_rates_fault() -> None:
    """A temperature of 1e-300 gives infinite logits at once."""
    found = str(NonFinite({"loss": 0, "distortion/info_nce": 0}))
    assert "info_nce not finite at step 0" in found and "temperature" in found
    assert "optim.lr" not in found and "checkpoint" not in found


def test_disk_full_while_saving_is_one_message(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # as Python starts
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(ParadiseError, match=r"^cannot write .*\Z"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "model.safetensors").exists()


def test_inert_rate_raises_the_alarm(tmp_path: Path) -> None:
    far = run(tmp_path / "far", "model.latent_dim=32", "model.sigma_shift=9")
    (alarm,) = far.records[0]["alarms"]
    assert (alarm["kind"], alarm["epoch"]) == ("rate_at_cap", 1)
    assert "alpha has no effect here; use q: fitted or a smaller latent_dim" in alarm["text"]
    # It stays there in the later epochs, which is the same event.
    assert all("alarms" not in record for record in far.records[1:])
    near = run(
        tmp_path / "near",
        "model.latent_dim=32",
        "objective.rate={q: fitted}",
        "model.sigma_shift=9",
    )
    assert all("alarms" not in record and "rate_cap" not in record for record in near.records)


@pytest.mark.parametrize("q", ["pairwise", "bank, size: 600", "bank"])
def test_every_q_with_a_cap_raises_the_alarm_there(tmp_path: Path, q: str) -> None:
    far = run(tmp_path, "model.latent_dim=32", f"objective.rate={{q: {q}}}", "model.sigma_shift=9")
    (alarm,) = (alarm for record in far.records for alarm in record.get("alarms", []))
    assert "alpha has no effect here" in alarm["text"]
    assert far.records[-1]["rate_of"] == ("I_B" if q == "pairwise" else "I(X;Z)")


def test_pseudo_inputs_start_from_training_images_and_are_trained(tmp_path: Path) -> None:
    """In [0, 1]; with weights that never decay, and without a trace in the weights file."""
    vamp = "objective.rate={q: vamp, components: 2000}"
    run(tmp_path, vamp, "train.epochs=1", "optim.weight_decay=0.1", "optim.lr=1.0e-4")
    name = "objective.rate.logits"
    logits = load_tensors(tmp_path / f"checkpoints/step-{STEPS // 3:09d}.safetensors")[0][name]
    images = logits.sigmoid()
    flat = {tuple(image.flatten().tolist()) for image in (16 * images).round()}
    assert len(flat) == 1293  # each of them once, then again from the first
    assert (16 * images - (16 * images).round()).abs().max() > 1e-4
    assert not any("logits" in tensor for tensor in weights(tmp_path))


def test_a_learned_q_does_not_decay_with_the_weights() -> None:
    chosen = recipe(
        "optim={name: adamw, lr: 0.01, weight_decay: 0.1}", "objective.rate={q: mixture}"
    )
    info = build_info(chosen)
    model, objective = build_model(chosen, info), build_objective(chosen, info)
    groups = build_optimizer(chosen, model.parameters(), objective.parameters()).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [
        (0.1, len(list(model.parameters()))),
        (0.0, 3),
    ]


def test_a_q_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    chosen = recipe("objective.rate={q: mixture}")
    info = build_info(chosen)
    model, objective = build_model(chosen, info), build_objective(chosen, info)
    objective.rate.means.data[0] = math.nan
    with pytest.raises(NonFinite):
        Checkpoints(tmp_path, {}).save(
            State.new(torch.device("cpu")),
            {"model": model, "objective": objective},
            build_optimizer(chosen, model.parameters()),
        )
    assert not list(tmp_path.iterdir())


def test_init_starts_from_trained_weights(tmp_path: Path) -> None:
    run(tmp_path / "first")
    run(tmp_path / "second", f"train.init={tmp_path / 'first'}", "train.epochs=0")
    assert_same(weights(tmp_path / "first"), weights(tmp_path / "second"))


def test_standard_is_the_same_encoder_without_noise(tmp_path: Path) -> None:
    overrides = ["model.stochastic=false", "objective.alpha=0", "train.epochs=0"]
    run(tmp_path / "standard", *overrides)
    run(tmp_path / "paradise", "train.epochs=0")
    standard, paradise = weights(tmp_path / "standard"), weights(tmp_path / "paradise")
    assert_same(standard, {name: t for name, t in paradise.items() if not name.startswith("rho.")})


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("[{name: crop, mode: reflect, pad: 8}]", r"data\.augment\.0: crop: 8 x 8 pixels .* by 8"),
        ("[flip, {name: crop, pad: -1}]", r"data\.augment\.1: crop: pad -1"),
        ("[{name: crop, pad: 9999}]", "0 to 1024 pixels are allowed"),
    ],
)
def test_augmentations_that_the_images_do_not_allow_are_refused_at_once(
    augment: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dry_run(load_recipe("digits", [f"data.augment={augment}"]).recipe)


def test_dry_run_counts_without_touching_data() -> None:
    cost = dry_run(recipe("model.latent_dim=2"), "cpu", steps=1)
    # 64*16 + 16, then mu and rho 16*2 + 2 each, then 2*10 + 10
    assert cost.parameters == 1040 + 2 * 34 + 30
    assert cost.steps_per_epoch == STEPS // 3
    assert cost.seconds_per_epoch > 0


@pytest.mark.parametrize(
    ("name", "hyper", "expected"),
    [
        ("constant", {}, {0: 1.0, 99: 1.0}),
        ("steps", {"at": [4, 8], "factor": 0.1}, {0: 1.0, 39: 1.0, 40: 0.1, 80: 0.01}),
        (
            "steps",
            {"at": [4], "factor": 0.1, "warmup_steps": 5, "warmup_factor": 0.5},
            {4: 0.5, 5: 1.0},
        ),
        ("one_cycle", {"warmup": 0.5}, {0: 2 / 101, 50: 1 - 1 / 101, 99: 2 / 101}),
        ("cosine", {}, {49: 0.5 * (1 + math.cos(math.pi * 50 / 101))}),
        ("exponential", {"factor": 0.9, "every": 2}, {19: 1.0, 20: 0.9, 40: 0.81}),
    ],
)
def test_schedules(name: str, hyper: dict[str, Any], expected: dict[int, float]) -> None:
    schedule = SCHEDULES[name](**hyper)
    assert {step: schedule(step, 10, 100) for step in expected} == pytest.approx(expected)


def test_every_schedule_is_tested() -> None:
    assert set(SCHEDULES) == {"constant", "steps", "one_cycle", "cosine", "exponential"}


def test_a_run_that_never_began_does_not_claim_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ParadiseError, match="no such folder"):
        run(tmp_path, "data={name: image_folder, root: nowhere}")
    run(tmp_path, "train.epochs=0")
