"""One process of an attack in several, as `torchrun` would start it, or one that is killed on its
way.

`python -m tests.attack_ranks rank FOLDER` attacks from the library and then by `paradise attack`;
`python -m tests.attack_ranks kill FOLDER BYTES...` begins the attack anew for each number, in a
folder of its own, and kills it with signal 9 after so many bytes of its ledger.
"""

import json
import os
import signal
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from paradise_cli.__main__ import main
from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.session.ledger import FolderLedger
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from tests.attack_cases import Linear

LINEAR = Linear(4, 0)
IMAGES, LABELS = LINEAR.problem(30, 0)
EPS = 0.03
PRECISION = "fp32"  # on every CPU, as in the process that compares


def load() -> Linear:
    """What `paradise attack tests.attack_ranks:load` attacks; the suite and the audit are small."""
    SUITES["tiny"] = Suite(
        (
            Stage("fgsm", {}, "FGSM"),
            Stage("multi_targeted", {"steps": 4, "restarts": 2}, "Multi-Targeted"),
            Stage("multi_targeted", {"steps": 4, "targets": 2}, "Nearest", nearest=True),
            Stage("square", {"queries": 20}, "Square", black_box=True),
        )
    )
    run.audit = lambda *_, **__: Audit("not detected", (), (), ())
    return LINEAR


def attacked(out: Path | None, **given: Any) -> AttackReport:
    given |= {"eps": EPS, "suite": "tiny", "precision": PRECISION, "curve": [0.01], "out": out}
    return attack(load(), IMAGES, LABELS, **given)


def document(report: AttackReport) -> dict[str, Any]:
    """Everything but the time it took."""
    found = report.to_json()
    told = {**found["settings"], "seconds": 0, "passes": None, "budget": None}
    return {**found, "settings": told}


def rank(folder: Path) -> None:
    mine = os.environ["RANK"]
    # In no time rank 1 has nothing to do, and both must agree that it is over.
    cut = attacked(folder / "cut", budget=None if mine == "0" else 1e-9, ci=0.2)
    report = attacked(folder / "library")
    again = attacked(folder / "cut")
    told = {"cut": document(cut), "report": document(report), "again": document(again)}
    (folder / f"told-{mine}.json").write_text(json.dumps(told))
    np.savez(folder / f"given-{mine}.npz", images=IMAGES.numpy(), labels=LABELS.numpy())
    command = "attack tests.attack_ranks:load --suite tiny --curve 0.01".split()
    command += ["--precision", PRECISION]
    given = [
        "--eps",
        str(EPS),
        "--data",
        str(folder / f"given-{mine}.npz"),
        "--out",
        str(folder / "command"),
    ]
    sys.argv = ["paradise", *command, *given]
    main()


def kill(folder: Path, moments: list[int]) -> None:
    append = FolderLedger._append
    for number, moment in enumerate(moments):
        if child := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            continue
        left = moment

        def dying(self: FolderLedger, file: FileIO, content: bytes) -> None:
            nonlocal left
            append(self, file, content[:left])
            left -= len(content)
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        FolderLedger._append = dying  # type: ignore[method-assign]
        attacked(folder / str(number))
        os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        rank(Path(sys.argv[2]))
    else:
        kill(Path(sys.argv[2]), [int(each) for each in sys.argv[3:]])
