"""The scripts of docs/schedulers, under a scheduler that pre-empts a job and queues it again."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from paradise_cli.cli import app

from .pages import ROOT, blocks

PAGE = ROOT / "docs" / "schedulers.md"
SCRIPTS = ROOT / "docs" / "schedulers"
EPOCHS = 25
TRAIN = ["digits", "--set", f"train.epochs={EPOCHS}", "--set", "data.validation=0.0"]
TRAIN += ["--set", "model.latent_dim=3", "--device", "cpu"]

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((rank = 0; rank < ${SLURM_NTASKS:-1}; rank++)); do
    SLURM_NTASKS=${SLURM_NTASKS:-1} SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    echo $! >> "$SLURM_FAKE/tasks-$SLURM_JOB_ID"
done
code=0
for pid in $(cat "$SLURM_FAKE/tasks-$SLURM_JOB_ID"); do
    wait "$pid"
    each=$?
    (( each > code )) && code=$each
done
exit "$code"
"""
"""As in Slurm: it returns the highest exit code of its tasks, whose signals it does not get."""

SCONTROL = """#!/bin/bash
case $1 in
    show) echo localhost ;;
    requeue) echo "$2" >> "$SLURM_FAKE/requeued" ;;
esac
"""


@dataclass
class Slurm:
    """Jobs of one machine."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program("srun", SRUN)
        self.program("scontrol", SCONTROL)
        self.program("paradise", f'#!/bin/bash\nexec {sys.executable} -m paradise_cli "$@"\n')
        torchrun = f"exec {sys.executable} -m torch.distributed.run"
        self.program("torchrun", f'#!/bin/bash\n{torchrun} "$@"\n')

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, words: list[str], **variables: str) -> "subprocess.Popen[bytes]":
        own = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_FAKE": str(self.folder),
        }
        return subprocess.Popen(words, env=os.environ | own | variables, cwd=self.folder)

    def job(
        self, number: int, script: str, *words: str, when: Callable[[], bool], **variables: str
    ) -> list[int]:
        """Run a job, pre-empt it `when` something holds, and again where that is asked for.

        The exit code of each time.
        """
        options = (SCRIPTS / script).read_text()
        # Without "B:" the tasks get the signal, and not the script.
        assert re.search(r"^#SBATCH --signal=TERM@\d+$", options, re.MULTILINE)
        assert re.search(r"^#SBATCH --requeue$", options, re.MULTILINE)
        codes = list[int]()
        while len(codes) < 3:
            tasks = self.folder / f"tasks-{number}"
            tasks.unlink(missing_ok=True)
            (self.folder / "requeued").unlink(missing_ok=True)
            batch = self.start(
                ["bash", str(SCRIPTS / script), *words],
                SLURM_JOB_ID=str(number), SLURM_JOB_NODELIST="localhost", SLURM_JOB_NUM_NODES="1",
                SLURM_RESTART_COUNT=str(len(codes)), **variables,
            )  # fmt: skip
            while not codes and batch.poll() is None:
                if when():
                    for task in tasks.read_text().split():
                        os.kill(int(task), signal.SIGTERM)
                    break
                time.sleep(0.02)
            codes.append(batch.wait())
            if not (self.folder / "requeued").exists():
                break
        return codes

    def requeued(self) -> str:
        return (self.folder / "requeued").read_text().strip()


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody stops."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert CliRunner().invoke(app, ["train", *TRAIN, "--out", str(run)]).exit_code == 0
    return run


def epochs(run: Path) -> list[int]:
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [json.loads(line)["epoch"] for line in lines]


def assert_same(run: Path, whole: Path) -> None:
    """Every epoch once, and the very weights and measurements."""
    assert epochs(run) == [*range(1, EPOCHS + 1)]
    weights = [folder / "model.safetensors" for folder in (run, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    results = [json.loads((folder / "result.json").read_text())["test"] for folder in (run, whole)]
    assert results[0] == results[1]


def test_a_preempted_job_ends_as_if_nothing_had_been(slurm: Slurm, whole: Path) -> None:
    run = slurm.folder / "run"
    words = ["train", *TRAIN, "--out", str(run)]
    codes = slurm.job(7, "paradise.sbatch", *words, when=lambda: len(epochs(run)) > 2)
    assert codes == [75, 0]
    assert_same(run, whole)


def test_torchrun_hides_the_code_and_the_job_goes_on_until_there_is_a_result(slurm: Slurm) -> None:
    run = slurm.folder / "run"
    done, torchrun = slurm.folder / "bin" / "done", slurm.folder / "bin" / "torchrun"
    done.write_text(f"#!/bin/bash\ntouch {run / 'result.json'}\n")
    done.chmod(0o755)

    def when() -> bool:
        if len(epochs(run)) < 3:
            return False
        done.replace(torchrun)  # what is started the next time
        return True

    assert slurm.job(7, "torchrun.sbatch", str(run), *TRAIN, when=when) == [1, 0]
    assert len(epochs(run)) < EPOCHS and list((run / "checkpoints").glob("step-*"))


def test_an_array_of_workers_ends_with_one_table(slurm: Slurm) -> None:
    """The first element is pre-empted; the second may finish the points of the first."""
    out = slurm.folder / "shared"
    sweep = ["sweep", *TRAIN, "--alpha", "0.1,1", "--worker", "--jobs", "1", "--out", str(out)]
    other = slurm.start(
        ["bash", str(SCRIPTS / "paradise.sbatch"), *sweep], SLURM_JOB_ID="8",
        SLURM_JOB_NODELIST="localhost", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="2",
    )  # fmt: skip
    codes = slurm.job(
        7, "paradise.sbatch", *sweep, when=lambda: bool(list(out.glob("points/*/metrics.jsonl"))),
        SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="1",
    )  # fmt: skip
    assert codes == [75, 0] and other.wait() == 0
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["alpha=0.1", "alpha=1"]
    assert not any(row["error"] for row in rows)
    for run in out.glob("points/*"):
        assert epochs(run) == [*range(1, EPOCHS + 1)]


@pytest.mark.parametrize(
    ("variables", "requeued"),
    [({}, "7"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3")],
)
def test_all_processes_of_a_job_find_each_other(
    slurm: Slurm, variables: dict[str, str], requeued: str
) -> None:
    """The number of one element of an array is that of the whole array, which is not queued."""
    told = "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $* >> told; exit 75"
    slurm.program("paradise", f"#!/bin/bash\n{told}\n")
    job = ["bash", str(SCRIPTS / "paradise.sbatch"), "train", "a b"]
    batch = slurm.start(
        job, SLURM_JOB_ID="7", SLURM_JOB_NODELIST="n", SLURM_NTASKS="2", **variables
    )
    assert batch.wait() == 75 and slurm.requeued() == requeued
    lines = sorted((slurm.folder / "told").read_text().splitlines())
    assert lines == [f"{rank} {rank} 2 localhost 20007 train a b" for rank in (0, 1)]


@pytest.mark.parametrize(("script", "restarts"), [("paradise", "0"), ("torchrun", "20")])
def test_a_mistake_is_not_queued_for_ever(slurm: Slurm, script: str, restarts: str) -> None:
    slurm.program(script, "#!/bin/bash\nexit 1\n")
    batch = slurm.start(
        ["bash", str(SCRIPTS / f"{script}.sbatch"), "run"], SLURM_JOB_ID="7",
        SLURM_JOB_NODELIST="n", SLURM_JOB_NUM_NODES="1", SLURM_RESTART_COUNT=restarts,
    )  # fmt: skip
    assert batch.wait() == 1 and not (slurm.folder / "requeued").exists()


def test_a_spot_job_that_is_stopped_is_recovered(slurm: Slurm) -> None:
    """SIGTERM passes the shell, and the code comes back through it."""
    task = yaml.safe_load((SCRIPTS / "train_sky.yaml").read_text())
    assert task["resources"]["use_spot"] is True
    waits = "trap 'exit 75' TERM; echo $* > told; while true; do sleep 0.1; done"
    slurm.program("paradise", f"#!/bin/bash\n{waits}\n")
    job = slurm.start(["bash", "-c", task["run"]], **task["envs"])
    told = slurm.folder / "told"
    while not (told.exists() and told.read_text()):
        time.sleep(0.02)
    assert told.read_text() == "train my_recipe.yaml --out /runs/big\n"
    assert any(Path("/runs/big").is_relative_to(mounted) for mounted in task["file_mounts"])
    job.terminate()
    assert job.wait() in task["resources"]["job_recovery"]["recover_on_exit_codes"]


def test_a_job_of_submitit_is_queued_again(tmp_path: Path, whole: Path) -> None:
    submitit = pytest.importorskip("submitit", reason="submitit is not installed")
    space: dict[str, object] = {"__name__": "submitit_jobs"}
    exec((SCRIPTS / "submitit_jobs.py").read_text(), space)
    command = space["Paradise"]
    assert callable(command)
    run = tmp_path / "run"
    executor = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="local")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(command(), "train", *TRAIN, "--out", str(run))
    while len(epochs(run)) < 3:
        time.sleep(0.02)
    # As Slurm does; submitit's own `_interrupt` kills what watches over the local job.
    watcher = job._process.pid
    (task,) = Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    job.result()
    assert "Requeued job" in job.stdout() and "going on from step" in job.stderr()
    assert_same(run, whole)


def test_the_page_shows_the_scripts_as_they_are() -> None:
    shown = {block.text for block in blocks(PAGE)}
    for script in SCRIPTS.iterdir():
        assert script.read_text() in shown, script.name
        assert f"(schedulers/{script.name})" in PAGE.read_text(), script.name
