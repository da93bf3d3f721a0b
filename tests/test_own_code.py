"""A ledger goes on with the same classifier alone: its code counts, and what it keeps beside."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit import calibration
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.engine.own_code import code_digest, own_code
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.core.errors import ParadiseError
from paradise_cli.robustness.classifiers import open_classifier
from tests.attack_cases import balanced
from tests.tiny_model import save_tiny

LINEAR = balanced(3, 0)
IMAGES, LABELS = LINEAR.problem(12, 0)

SOURCE = '''
import functools
import torch
import helper
from torch import nn

LEVELS = {"eight", "four", "two"}

class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (8 * x).round() / 8
    @staticmethod
    def backward(ctx, slope):
        return slope

rounded = Rounded.apply

class Net(nn.Module):
    """A network."""
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        self.sigma = 0.25
        self.calls = 0
        self.names = frozenset({"cat", "dog", "newt"})
        self.keys = object()
    @torch.no_grad()
    def shifted(self, x):
        return helper.shift(x)
    def forward(self, x):
        """Logits."""
        self.calls += 1
        self.noise = torch.randn(3)
        if "eight" in {"eight", "four"}:  # as always
            x = rounded(x)
        return self.layers(self.shifted(x).detach()) * self.sigma
'''
HELPER = "HALF = 0.5\ndef shift(x): return x - HALF\n"
DIGEST = """
import torch, mine
from paradise_cli.attacks.engine.own_code import code_digest, own_code
net = mine.Net().eval()
before = own_code(net)
net(torch.rand(2, 1, 6, 6))
print(code_digest(before, own_code(net)))
"""


def digest_of(folder: Path, source: str = SOURCE, helper: str = HELPER, seed: int = 0) -> str:
    """What a fresh process says of this code."""
    (folder / "mine.py").write_text(source)
    (folder / "helper.py").write_text(helper)
    beside = {"PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"}
    paths = os.pathsep.join([str(folder), str(Path.cwd())])
    said = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, **beside, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def test_code_is_the_same_in_every_process_and_another_after_any_change_of_it(
    tmp_path: Path,
) -> None:
    """Six processes in all: each takes seconds."""
    first = digest_of(tmp_path)
    assert len(first) == 16
    told_otherwise = SOURCE.replace("A network", "The same").replace("as always", "of course")
    assert digest_of(tmp_path, "\n\n" + told_otherwise, seed=1) == first
    others = [
        digest_of(tmp_path, SOURCE.replace(".detach()", "")),
        digest_of(tmp_path, SOURCE.replace("sigma = 0.25", "sigma = 0.5")),
        digest_of(tmp_path, SOURCE.replace("return slope", "return 0 * slope")),
        digest_of(tmp_path, helper=HELPER.replace("0.5", "0.4")),
    ]
    assert len({first, *others}) == 5


def test_what_changes_with_a_call_or_a_process_is_no_part_of_a_classifier() -> None:
    class Counting:
        calls = 0

        def __init__(self, device: str) -> None:
            self.seen: list[int] = []
            self.device = device

        def __call__(self, images: Tensor) -> Tensor:
            Counting.calls += 1
            self.seen.append(len(images))
            return LINEAR(images)

    digests = []
    for device in ("cuda:0", "cuda:1"):
        function = Counting(device)
        function(IMAGES)
        before = own_code(function)
        function(IMAGES)
        digests.append(code_digest(before, own_code(function)))
    assert digests[0] == digests[1] is not None


def test_what_torch_and_this_package_made_has_no_code_of_its_own(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    save_tiny(tmp_path / "tiny.safetensors")
    for sampled in (False, True):
        opened = open_classifier(str(tmp_path / "tiny.safetensors"), device="cpu", sampled=sampled)
        assert own_code(opened.function) == own_code(network) == {}
    assert own_code(lambda images: network(images)) != {}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("fgsm", {}, "FGSM"),)))


def judged(classifier: Callable[[Tensor], Tensor], out: Path) -> AttackReport:
    return attack(classifier, IMAGES, LABELS, eps=0.1, suite="quick", audited=4, out=out)


def test_a_corrected_classifier_gets_none_of_the_numbers_of_the_masked_one(tmp_path: Path) -> None:
    """The logits of both are the same, to the bit."""

    def masked(images: Tensor) -> Tensor:
        return LINEAR(images.detach())

    assert judged(masked, tmp_path).standing.any()
    with pytest.raises(ParadiseError, match="with other code of the classifier: repeat"):
        judged(lambda images: LINEAR(images), tmp_path)
    judged(masked, tmp_path)


def test_so_does_one_that_draws_at_random_with_another_width(tmp_path: Path) -> None:
    class Noisy:
        def __init__(self, sigma: float) -> None:
            self.sigma = sigma

        def __call__(self, images: Tensor) -> Tensor:
            logits = LINEAR(images)
            return logits + self.sigma * torch.randn(logits.shape)

    judged(Noisy(0.1), tmp_path)
    judged(Noisy(0.1), tmp_path)
    with pytest.raises(ParadiseError, match="with other code of the classifier: repeat"):
        judged(Noisy(0.2), tmp_path)


def rewritten(path: Path, **changes: Any) -> None:
    """The header with these keys, and without those that are None."""
    header, rest = path.read_text().split("\n", 1)
    changed = {
        key: value for key, value in (json.loads(header) | changes).items() if value is not None
    }
    path.write_text(json.dumps(changed) + "\n" + rest)


def test_other_code_of_the_attacks_is_told_and_refuses_nothing(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    told = "was begun with other code of the attacks"
    assert told not in "".join(judged(network, tmp_path).notes)
    # As an older version wrote it, and another one.
    for code in (None, "0123"):
        rewritten(tmp_path / "ledger.jsonl", code=None, attacks=code)
        assert told in "".join(judged(network, tmp_path).notes)
    rewritten(tmp_path / "ledger.jsonl", attacks=calibration.package_digest())
    assert told not in "".join(judged(network, tmp_path).notes)
