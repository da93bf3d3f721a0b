"""An exported file answers as the model does, holds no path of this machine, and is made once."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import file_digest
from paradise_cli.export import formats
from paradise_cli.export.export import export
from paradise_cli.export.formats import FORMATS
from paradise_cli.export.network import (
    Answers,
    ExportedNetwork,
    largest_differences,
    network_of,
    trial_images,
)
from paradise_cli.hub.cards import packaged_file, zoo_names
from paradise_cli.information.gaussian import DiagonalGaussian
from tests.tiny_model import CLASSES, save_tiny

HERE = str(Path(__file__).parent.parent).encode()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny.safetensors")


def test_onnxruntime_gives_what_encode_and_predict_give(tiny: Path, tmp_path: Path) -> None:
    model, path = paradise_cli.load(tiny), tmp_path / "tiny.onnx"
    found = export(model, path, "onnx")
    assert found.differences is not None and max(found.differences.values()) < 1e-5
    assert found.checked_by == f"onnxruntime {onnxruntime.__version__}"
    # One file, without a second one for the weights.
    assert {each.name for each in tmp_path.iterdir()} == {"tiny.safetensors", "tiny.onnx"}
    images = trial_images(model.info.shape, 9).numpy()
    given = onnxruntime.InferenceSession(path).run(None, {"images": images})
    posterior, prediction = model.encode(images), model.predict(images)
    wanted = [posterior.mean, posterior.log_variance, np.log(prediction.probabilities["animal"])]
    for theirs, ours in zip(given, wanted, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    (entry,) = onnx.load(path).metadata_props
    said = json.loads(entry.value)
    assert entry.key == "paradise" and said["classes"] == {"animal": CLASSES}
    assert said["preprocessing"] == model.info.preprocessing.to_json()
    assert HERE not in path.read_bytes()


def test_an_operation_inside_may_be_called_as_an_answer(tiny: Path, tmp_path: Path) -> None:
    network = network_of(paradise_cli.load(tiny))
    encode = network.model.encode

    def averaged(images: Tensor) -> DiagonalGaussian:
        mu, sigma = encode(images)
        # What averages over pixels is called `mean`, as the first answer is.
        return DiagonalGaussian(mu + images.mean((1, 2, 3))[:, None], sigma)

    network.model.encode = averaged  # type: ignore[assignment]
    images, path = trial_images((1, 12, 12), 2), tmp_path / "tiny.onnx"
    formats.write_onnx(network, images, "{}", path)
    onnx.checker.check_model(onnx.load(path))
    run = formats.run_onnx(path)
    assert run is not None
    torch.testing.assert_close(run(images)[0], network(images)[0], atol=1e-5, rtol=0)


def test_torch_alone_runs_the_archive_of_a_deterministic_encoder(tmp_path: Path) -> None:
    tiny = save_tiny(tmp_path / "tiny.safetensors", classifier=False, stochastic=False)
    model, path = paradise_cli.load(tiny), tmp_path / "tiny.pt2"
    found = export(model, path, "torch")
    # Equal infinities are no difference.
    assert found.differences == {"mean": 0.0, "log_variance": 0.0}
    extra = {"paradise.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra["paradise.json"])["classes"] == {}
    images = trial_images(model.info.shape, 3)
    mean, log_variance = module(images)
    assert torch.equal(mean, model.model.encode(images).mu)
    assert torch.equal(log_variance, torch.full_like(mean, -torch.inf))
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not any(HERE in content for content in contents.values())
    # What torch pickles is a zip within the zip.
    assert not any(zipfile.is_zipfile(io.BytesIO(content)) for content in contents.values())


def test_every_packaged_model_was_exported_and_answers_alike() -> None:
    """Once for each weights file, by `benchmarks/packaged_models.py`: they never change."""
    results = Path(__file__).parent.parent / "benchmarks" / "results" / "packaged_models.json"
    rows = {row["sha256"]: row for row in json.loads(results.read_text())["rows"]}
    for path in filter(None, map(packaged_file, zoo_names())):
        row = rows.get(file_digest(path))
        assert row is not None, f"run benchmarks/packaged_models.py --save for {path.stem}"
        assert max(row[format] for format in FORMATS) <= 1e-5


def test_a_difference_above_one_is_a_share(tiny: Path) -> None:
    """0.5 off is a quarter of an answer of 2, and the whole of what an answer of 0.1 is off."""
    network = network_of(paradise_cli.load(tiny))
    network.forward = lambda images: (
        [torch.full((len(images), 1), 2.0)] * 2
        + [  # type: ignore
            torch.full((len(images), 1), 0.1)
        ]
    )
    found = largest_differences(
        network, lambda images: [a + 0.5 for a in network(images)], (1, 4, 4)
    )
    assert list(found.values()) == pytest.approx([0.25, 0.25, 0.5])


def test_the_same_weights_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    for name in ("a.pt2", "b.pt2"):
        export(paradise_cli.load(tiny), tmp_path / name, "torch")
    assert (tmp_path / "a.pt2").read_bytes() == (tmp_path / "b.pt2").read_bytes()


def test_a_file_that_answers_otherwise_is_not_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.pt2"
    path.write_text("an older one")

    def wrong(path: Path) -> formats.Runner:
        right = formats.run_torch(path)
        return lambda images: [answer + 2e-5 for answer in right(images)]

    monkeypatch.setitem(FORMATS, "torch", formats.Format(write, wrong, "torch"))
    message = "computes another mean from the torch file than the model, by up to 2e-05"
    with pytest.raises(ParadiseError, match=message):
        export(paradise_cli.load(tiny), path, "torch")
    assert path.read_text() == "an older one"


write = FORMATS["torch"].write


def test_a_nan_is_a_difference(tiny: Path) -> None:
    network = network_of(paradise_cli.load(tiny))

    def run(images: Tensor) -> Answers:
        mean, *others = network(images)
        return [torch.where(torch.arange(mean.shape[1]) == 1, torch.nan, mean), *others]

    found = largest_differences(network, run, (1, 12, 12))
    assert found == {"mean": torch.inf, "log_variance": 0.0, "log_probabilities": 0.0}


def test_several_heads_have_names_of_their_own(tiny: Path) -> None:
    network = ExportedNetwork(paradise_cli.load(tiny).model, ["a", "b"])
    assert network.names[2:] == ("log_probabilities_a", "log_probabilities_b")


def test_what_is_not_installed_is_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["export", str(tiny)])
    assert result.exit_code == 1 and not (tmp_path / "tiny.onnx").exists()
    assert result.stderr == (
        "error: --format onnx needs onnx and onnxscript, not installed here: pip install"
        " 'paradise-cli[onnx]', or use --format torch\n"
    )


def test_what_torch_cannot_trace_is_one_message(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a component of somebody else may do it: by a branch on values."""
    whole = ExportedNetwork.forward

    def branching(self: ExportedNetwork, images: Tensor) -> Answers:
        return whole(self, images if images.sum() > 0 else images + 1)

    monkeypatch.setattr(ExportedNetwork, "forward", branching)
    for format in FORMATS:
        with pytest.raises(ParadiseError, match=r"torch cannot trace this model: Guard.*branch"):
            export(paradise_cli.load(tiny), tmp_path / "model", format)
    assert list(tmp_path.iterdir()) == [tiny]


def test_a_file_that_nothing_reads_back_is_said_not_to_be_compared(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = formats.Format(write, lambda path: None, "torch")
    monkeypatch.setitem(FORMATS, "torch", unread)
    out = str(tmp_path / "mine.pt2")
    result = CliRunner().invoke(app, ["export", str(tiny), "-f", "torch", "--out", out])
    assert result.exit_code == 0 and "not compared" in result.stdout
    assert "install torch to have the file checked" in result.stderr
    # The same command replaces its own file, and another model's stays.
    other = str(save_tiny(tmp_path / "other.safetensors"))
    result = CliRunner().invoke(app, ["export", other, "-f", "torch", "--out", out])
    assert result.exit_code == 2 and "holds another result" in result.stderr
