"""The selftest passes here, and notices when an identity fails."""

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.information.blahut_arimoto import DiscreteSource, blahut_arimoto
from paradise_cli.information.tabular import descend
from paradise_cli.runs import selftest


def test_every_identity_holds_on_this_machine() -> None:
    result = CliRunner().invoke(app, ["selftest", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.stdout + result.stderr
    checks = json.loads(result.stdout)
    assert len(checks) == len(selftest.CHECKS) and all(check["passed"] for check in checks)


def test_a_file_of_the_current_folder_stands_in_for_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert selftest.kill_and_resume(torch.device("cpu")) == 0


@pytest.mark.parametrize("measured", [2.0, math.nan])
def test_a_failed_identity_is_named(measured: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        selftest, "CHECKS", (("one", 1.0, lambda _: measured), ("two", 1.0, lambda _: 0.5))
    )
    result = CliRunner().invoke(app, ["selftest"])
    assert result.exit_code == 1 and "FAIL" in result.stdout
    assert "1 of 2 checks failed: one" in result.stderr


@pytest.mark.parametrize("seed", range(10))
def test_eq_5_on_a_table_falls_to_blahut_arimoto(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    p, d = (torch.rand(*shape, generator=draw, dtype=torch.float64) for shape in ((3,), (3, 5)))
    source, alpha = DiscreteSource(p / p.sum(), d), 0.3
    values = descend(source, alpha, 3000)
    assert values.diff().max() <= 1e-12
    (point,) = blahut_arimoto(source, torch.tensor([1 / alpha]), tolerance=1e-10).points
    best = point.distortion + alpha * point.upper
    assert best - 1e-9 <= float(values[-1]) <= best + 1e-3
