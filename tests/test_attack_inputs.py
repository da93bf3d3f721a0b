"""Any classifier and any images: what the library's one call takes, and what it refuses with which
words.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nested import nested_tensor
from torchvision.models import resnet18
from torchvision.transforms import Normalize

from paradise_cli.attacks import AttackReport, attack, run
from paradise_cli.attacks.audit.audit import Audit
from paradise_cli.attacks.audit.context import Siblings
from paradise_cli.attacks.engine.classifier import Behaviour
from paradise_cli.attacks.session.identity import fingerprint
from paradise_cli.attacks.session.inputs import checked_images, checked_labels, choose_compute
from paradise_cli.attacks.session.session import Session
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.journal import compare
from paradise_cli.core.randomness import generator
from paradise_cli.perturbations.threat import Linf
from paradise_cli.robustness.classifiers import NamedClassifier
from paradise_cli.robustness.examples import open_examples
from tests.attack_cases import Linear, balanced, eps_that_fells_half

N = 12


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites of seconds, and no audit: what comes in and is refused is tested here."""
    monkeypatch.setattr(run, "audit", lambda *_, **__: Audit("not detected", (), (), ()))
    tiny = Suite(
        (Stage("fgsm", {}, "FGSM"), Stage("multi_targeted", {"steps": 20, "restarts": 1}, "MT"))
    )
    monkeypatch.setitem(SUITES, "quick", tiny)
    monkeypatch.setitem(
        SUITES, "transfer", Suite((Stage("fgsm"),), independent=True, transfer=True)
    )


def judged(classifier: Any, images: Any, labels: Any, **given: Any) -> AttackReport:
    return attack(
        classifier, images, labels, **{"eps": 8 / 255, "suite": "quick", "audited": 4} | given
    )


def problem(classes: int = 3) -> tuple[Linear, Tensor, Tensor, float]:
    """A linear classifier, images, labels and a radius within which half of the images fall."""
    linear = balanced(classes, 0)
    images, labels = linear.problem(N, 0)
    return (
        linear,
        images,
        labels,
        eps_that_fells_half(linear.radius(images, labels, "linf"), Linf).eps,
    )


def same(one: AttackReport, other: AttackReport) -> bool:
    return (
        torch.equal(one.adversarial, other.adversarial)
        and one.broken_by == other.broken_by
        and one.robust_accuracy == other.robust_accuracy
    )


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_grey_images_and_few_classes(classes: int) -> None:
    linear, images, labels, eps = problem(classes)
    report = judged(linear, images, labels, eps=eps)
    assert report.robust_accuracy.value == 0.5
    exact = linear.radius(images, labels, "linf") > eps
    assert torch.equal(report.standing, exact)
    assert ("DLR" in "".join(report.notes)) == (classes < 4)


def test_a_network_of_torchvision_with_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network = resnet18(num_classes=3)
    images = torch.rand(2, 3, 64, 64, generator=generator(0, "resnet"))
    with pytest.raises(UsageError, match=r"training mode.*model\.eval\(\)"):
        judged(network, images, torch.zeros(2, dtype=torch.int64))
    network.eval()
    with torch.no_grad():
        labels = network(images).argmax(1)
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("fgsm", {}, "FGSM"),)))
    report = judged(network, images, labels, audited=1)
    assert report.clean_accuracy.value == 1 and report.adversarial.shape == images.shape
    with torch.no_grad():
        answers = network(report.adversarial).argmax(1)
    assert torch.equal(answers == labels, report.standing)


def layouts(images: Tensor) -> dict[str, Any]:
    """The same images [N, C, H, W], laid out otherwise in memory."""
    wide = torch.zeros(*images.shape[:-1], 2 * images.shape[-1])
    wide[..., ::2] = images
    frozen = images.numpy().copy()
    frozen.flags.writeable = False
    return {
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "permuted": images.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        "every other column": wide[..., ::2],
        "with a gradient": images.clone().requires_grad_(),
        "float64": images.double(),
        "numpy": images.numpy(),
        "numpy, backwards": images.numpy()[..., ::-1].copy()[..., ::-1],
        "numpy, read-only": frozen,
    }


def test_layers_without_parameters_may_be_in_training_mode() -> None:
    linear, images, labels, eps = problem()
    normalize = Normalize([0.0], [1.0])
    assert normalize.training
    assert same(
        judged(lambda x: linear(normalize(x)), images, labels, eps=eps),
        judged(linear, images, labels, eps=eps),
    )


def test_memory_layout_changes_nothing() -> None:
    convolution = nn.Conv2d(3, 4, 3).eval()
    images = torch.rand(5, 3, 6, 7, generator=generator(0, "layouts"))

    def classifier(pixels: Tensor) -> Tensor:
        answer: Tensor = convolution(pixels).amax((2, 3))
        return answer

    labels = classifier(images).argmax(1)
    plain = judged(classifier, images, labels)
    for name, other in layouts(images).items():
        assert same(plain, judged(classifier, other, labels)), name
    bytes_ = (images * 255).to(torch.uint8)
    last = bytes_.contiguous(memory_format=torch.channels_last)
    assert same(judged(classifier, bytes_, labels), judged(classifier, last, labels.numpy()))
    assert checked_images(last).is_contiguous()


def test_a_base_is_checked_before_anything_is_attacked_and_given_to_the_audit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    linear, images, labels, eps = problem()
    for base, message in (
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), "^base: the model is in training mode"),
        (lambda pixels: (linear(pixels), pixels), "^base: the classifier returns a tuple"),
        (lambda pixels: linear(pixels)[:, :2], "^base: labels run from 0 to 2"),
    ):
        with pytest.raises(ParadiseError, match=message):
            judged(linear, images, labels, base=base, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    given: list[Siblings] = []

    def audit(
        session: Session, *_: Any, rows: Sequence[int], images: int, siblings: Siblings, **__: Any
    ) -> Audit:
        given.append(siblings)
        assert siblings.base is None or torch.equal(
            siblings.base.subject.images, session.subject.images[rows[:images]]
        )
        return Audit("not detected", (), (), ())

    monkeypatch.setattr(run, "audit", audit)
    other = balanced(3, 1)
    judged(linear, images, labels, base=other, eps=eps, norm="l2")
    judged(linear, images, labels, eps=eps)
    with_base, without = given
    assert (
        with_base.base is not None
        and with_base.base.subject.function is other
        and without.base is None
    )
    assert torch.equal(
        with_base.base.subject.correct,
        other(with_base.base.subject.images).argmax(1) == with_base.base.subject.labels,
    )
    assert with_base.base.subject.norm == "l2" and len(with_base.base.subject.images) == 4
    for siblings in given:  # the reference is one of L-infinity whatever is audited
        assert siblings.reference is not None and siblings.reference.subject.norm == "linf"
        assert (len(siblings.reference.subject.images), siblings.reference_eps) == (
            8,
            0.15,
        )  # twice the audited
        assert siblings.known == {5, 7}


def test_one_image_one_class_left_and_nothing_left() -> None:
    linear, images, labels, eps = problem()
    alone = judged(linear, images[:1], labels[:1], eps=eps)
    together = judged(linear, images, labels, eps=eps)
    assert alone.standing[0] == together.standing[0]
    only = labels == labels[0]
    report = judged(linear, images[only], labels[only], eps=eps)
    assert torch.equal(report.standing, together.standing[only])
    wrong = judged(linear, images, (labels + 1) % 3, eps=eps)
    assert (wrong.clean_accuracy.value, wrong.robust_accuracy.value) == (0, 0)
    assert set(wrong.broken_by) == {"clean"} and torch.equal(wrong.adversarial, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(1, 1, 9), (2, 3, 40), (1, 37, 50), (3, 2, 2)])
def test_images_of_any_shape_fall_where_a_linear_classifier_lets_them(
    shape: tuple[int, int, int], norm: str
) -> None:
    """Nothing within eps changes an answer whose margin is more than eps times the dual norm."""
    images = 0.25 + 0.5 * torch.rand(6, *shape, generator=generator("odd shapes"))
    weights = torch.randn(3, images[0].numel(), generator=generator("of a line", shape))

    def linear(x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ weights.to(x).T

    logits = linear(images.double())
    labels = logits.argmax(1)
    others = torch.tensor([[k for k in range(3) if k != label] for label in labels.tolist()])
    margins = logits.gather(1, labels[:, None]) - logits.gather(1, others)
    ways = (weights[labels][:, None] - weights[others]).double()
    radii = (margins / ways.norm(p=1 if norm == "linf" else 2, dim=2)).amin(1)
    # Between the third and the fourth: no pixel leaves [0, 1] before.
    eps = float(radii.sort().values[2:4].mean())
    assert norm == "l2" or eps < 0.25
    report = judged(linear, images, labels, eps=eps, norm=norm, precision="fp32")
    assert (report.standing == (radii > eps)).all()


class BatchMean(nn.Module):
    """Logits relative to those of the batch."""

    def forward(self, images: Tensor) -> Tensor:
        logits = balanced(3, 0)(images)
        return logits - logits.mean(0)


def test_an_answer_that_depends_on_the_batch_is_said_so() -> None:
    _, images, labels, eps = problem()
    report = judged(BatchMean().eval(), images, labels, eps=eps)
    assert "depends on the other images of its batch" in "".join(report.notes)
    assert report.to_json()["notes"] == list(report.notes)


def answering(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    return lambda images: change(balanced(3, 0)(images))


def of_wrong_size(images: Tensor) -> Tensor:
    return images.flatten(1) @ torch.zeros(5, 3)


TRAINING = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Dropout())


def using_a_global_model_in_training(images: Tensor) -> Tensor:
    answer: Tensor = TRAINING(images)
    return answer


class Wrapped:
    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Dropout())

    def predict(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model(images)
        return answer


class UsingAGlobal:
    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([TRAINING(images) for _ in range(2)]).mean(0)


def asked(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return model(images)


def closing_over_a_model_in_training() -> Callable[[Tensor], Tensor]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Dropout())
    return lambda images: model(images)


def answering_through(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: function(images)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (
            answering(lambda logits: (logits, logits)),
            r"returns a tuple: return one float tensor.*first item",
        ),
        (answering(lambda logits: {"logits": logits}), "returns a dict: return one float tensor"),
        (
            answering(lambda logits: logits[:, 0]),
            r"for 12 images the classifier returns float32 \[12\]",
        ),
        (
            answering(lambda logits: logits.argmax(1)),
            r"returns int64 \[12\]: return one float tensor",
        ),
        (
            answering(lambda logits: logits[:, :1]),
            r"gives logits \[N, 1\], and two or more are needed",
        ),
        (
            answering(lambda logits: logits.mean(0, keepdim=True)),
            r"for 12 images.*float32 \[1, 3\]",
        ),
        (
            answering(lambda logits: logits.softmax(1)),
            "return the logits before the softmax, or log_softmax",
        ),
        (
            answering(lambda logits: logits.softmax(1).half()),
            "return the logits before the softmax",
        ),
        (
            answering(lambda logits: logits * torch.nan),
            "NaN or infinite logits for 12 of 12 clean images",
        ),
        (answering(lambda logits: logits / 0), "NaN or infinite logits for 12 of 12"),
        (of_wrong_size, r"fails on float32 images \[12, 1, 6, 6\] on cpu: RuntimeError"),
        (closing_over_a_model_in_training(), r"training mode.*model\.eval\(\)"),
        (answering_through(closing_over_a_model_in_training()), r"training mode.*model\.eval\(\)"),
        (using_a_global_model_in_training, r"training mode.*model\.eval\(\)"),
        (partial(asked, TRAINING), r"training mode.*model\.eval\(\)"),
        (Wrapped().predict, r"training mode.*model\.eval\(\)"),
        (UsingAGlobal(), r"training mode.*model\.eval\(\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), r"training mode.*model\.eval\(\)"),
    ],
)
def test_classifiers_that_cannot_be_attacked(classifier: Any, message: str, tmp_path: Path) -> None:
    _, images, labels, _ = problem()
    with pytest.raises(ParadiseError, match=message):
        judged(classifier, images, labels, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


IMAGES, LABELS = problem()[1:3]
nested = partial(nested_tensor, layout=torch.jagged)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": IMAGES * 255}, r"pixels run from .* must lie in \[0, 1\].*divide by 255"),
        ({"images": IMAGES - 0.5}, r"must lie in \[0, 1\]: undo any normalisation"),
        ({"images": IMAGES * torch.nan}, "NaN in place of pixels"),
        ({"images": IMAGES.long()}, "pixels of type int64"),
        ({"images": (IMAGES > 0.5).byte()}, "uint8 pixels run from 0 to 1 of 255"),
        ({"images": IMAGES[0]}, r"images of shape \[1, 6, 6\]: \[N, C, H, W\]"),
        ({"images": IMAGES[..., :0]}, r"shape \[12, 1, 6, 0\]: .* each of 1 or more"),
        ({"images": IMAGES.numpy().astype(object)}, "pixels of type object: float in"),
        ({"images": IMAGES.to(torch.complex64).conj()}, "pixels of type complex64: float in"),
        ({"images": "folder"}, "pixels of type text: float in"),
        ({"images": None}, "^images of type NoneType cannot be read as one array"),
        ({"images": {"a": IMAGES}}, "^images of type dict cannot be read as one array"),
        ({"images": [np.ones((1, 6, 6)), np.ones((1, 6, 5))]}, "its parts differ in shape.*: give"),
        ({"images": nested([IMAGES[0], IMAGES[1]])}, "its parts differ in shape"),
        ({"images": IMAGES.to("meta")}, "on the meta device it holds no values"),
        ({"images": np.ma.masked_less(IMAGES.numpy(), 0.5)}, "some of its values are masked"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "each of 1 or more"),
        ({"labels": LABELS + 3}, "labels run from 3 to .* 3 logits: 0 to 2 are allowed"),
        ({"labels": LABELS - 3}, "labels run from -3"),
        ({"labels": LABELS[:-1]}, r"shape \[11\]: 12 integers are needed"),
        ({"labels": LABELS.float()}, "type float32"),
        ({"labels": LABELS.to(torch.complex64)}, "labels of type complex64 .*: 12 integers"),
        ({"labels": ["cat"] * N}, r"labels of type text and shape \[12\]: 12 integers"),
        ({"labels": None}, "^labels of type NoneType cannot be read as one array"),
        ({"labels": LABELS.to("meta")}, "^labels of type Tensor .*meta device"),
        ({"labels": [2**63] * N}, "labels up to 9223372036854775808: class numbers are needed"),
        ({"labels": torch.eye(3)[LABELS].long()}, r"shape \[12, 3\]: 12 integers"),
        ({"eps": 0}, "eps must be above 0, not 0: at 0 robust accuracy is clean accuracy"),
        ({"eps": -0.1}, "eps must be above 0"),
        ({"eps": 8}, "pixels lie in .*: 8 is too large; write 8/255"),
        ({"eps": torch.nan}, "eps must be above 0, not nan"),
        ({"eps": "8/255"}, "eps is a number in pixel units, as 8/255, not '8/255'"),
        ({"eps": torch.inf, "norm": "l2"}, "eps must be finite"),
        ({"eps": True}, "eps is a number in pixel units"),
        ({"eps": torch.ones(2)}, "eps is a number in pixel units"),
        ({"curve": "12"}, "curve is a list of numbers in pixel units, not '12'"),
        ({"norm": None}, r"norm must be text \(one of linf, l2\), not None"),
        ({"suite": None}, r"suite must be text \(one of quick, .*\), not None"),
        ({"precision": torch.float16}, r"precision must be text \(one of auto, fp32, bf16\)"),
        ({"sources": [balanced(3, 1)]}, "sources are classifiers by name, .*, not in a list"),
        ({"out": 5}, r"out must be text \(a path\), not 5"),
        ({"out": ""}, "out: '' is no path: name a file or folder"),
        ({"out": "a\0b"}, r"out: 'a\\x00b' is no path"),
        ({"ci": "1%"}, "ci is a number, as 0.01, not '1%'"),
        ({"budget": "1h"}, "budget is a number of seconds, as 3600, not '1h'"),
        ({"curve": [0.01, 2]}, "2 is too large"),
        ({"norm": "linff"}, "unknown norm 'linff'; did you mean 'linf'.; known: linf, l2"),
        (
            {"suite": "standart"},
            "unknown suite 'standart'; did you mean 'standard'.; known: quick, fast, standard",
        ),
        ({"suite": "transfer"}, "give sources"),
        ({"sources": {"a": balanced(3, 1)}}, "suite quick uses no sources"),
        (
            {"suite": "transfer", "sources": {"a": balanced(2, 1)}},
            "source a: labels run from 0 to 2",
        ),
        ({"suite": "transfer", "sources": {"b": of_wrong_size}}, "source b: the classifier fails"),
        ({"ci": 0.0}, "ci must lie between 0 and 0.5, not 0: write 1%"),
        ({"ci": 1}, "ci must lie between 0 and 0.5"),
        ({"budget": 0}, "budget must be a number of seconds above 0"),
        ({"audited": 0}, "audited must be a whole number from 1 to"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 16,384, not 0"),
        ({"batch_size": 10**20}, "batch_size must be a whole number from 1 to 16,384"),
        ({"audited": 1.5}, "audited must be a whole number from 1 to 1,000,000,000, not 1.5"),
        ({"seed": 2**70}, "seed must be a whole number from -9,223"),
        ({"seed": True}, "seed must be a whole number"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; known: auto, fp32, bf16"),
    ],
)
def test_arguments_that_mean_nothing(given: dict[str, Any], message: str) -> None:
    given = {"images": IMAGES, "labels": LABELS, **given}
    with pytest.raises(ParadiseError, match=message):
        judged(balanced(3, 0), given.pop("images"), given.pop("labels"), **given)


# Each of its kinds holds these values exactly.
EIGHTHS = (torch.arange(2 * 3 * 4) % 9 / 8).view(1, 2, 3, 4)


@pytest.mark.parametrize(
    "images",
    [
        EIGHTHS.numpy().astype(">f4"),
        EIGHTHS.numpy().astype(np.longdouble),
        EIGHTHS.numpy().astype(np.float16),
        EIGHTHS.bfloat16(),
        EIGHTHS.to(torch.float8_e4m3fn),
        EIGHTHS.to_sparse(),
        EIGHTHS.to(torch.complex64).mul(1j).conj().imag.neg(),
        [image.bfloat16().requires_grad_() for image in EIGHTHS],
        EIGHTHS.tolist(),
    ],
    ids=lambda images: f"{type(images).__name__} {getattr(images, 'dtype', '')}",
)
def test_equal_pixels_are_equal_images_whatever_holds_them(images: Any) -> None:
    found = checked_images(images)
    assert found.dtype == torch.float32 and torch.equal(found, EIGHTHS)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.numpy().astype(">i4"),
        LABELS.numpy().astype(np.uint64),
        LABELS.to_sparse(),
        list(LABELS),
        tuple(LABELS.tolist()),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')}",
)
def test_equal_numbers_are_equal_labels_whatever_holds_them(labels: Any) -> None:
    assert torch.equal(checked_labels(labels, N), LABELS)


def test_a_folder_and_numbers_may_be_given_as_anything_that_means_them(tmp_path: Path) -> None:
    given: dict[str, Any] = {"ci": np.float32(0.4), "budget": np.int64(600), "norm": np.str_("l2")}
    report = judged(
        balanced(3, 0), IMAGES.numpy().astype(">f4"), LABELS.numpy().astype(">i4"),
        out=str(tmp_path / "run"), **given,
    )  # fmt: skip
    assert (tmp_path / "run" / "ledger.jsonl").is_file()
    assert json.loads(json.dumps(report.to_json()))["settings"]["norm"] == "l2"


def test_pixels_a_rounding_outside_are_moved_to_the_end_of_the_range() -> None:
    images = torch.tensor([-2.98e-8, 0.5, 1.0000001]).view(1, 1, 1, 3)
    assert checked_images(images).flatten().tolist() == [0, 0.5, 1]
    with pytest.raises(ParadiseError, match=r"from 0\.5 to 1\.00001, but must"):
        checked_images(torch.tensor([0.5, 1.00001]).view(1, 1, 1, 2))


def test_unknown_attacks_are_named_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("apgdd"),)))
    with pytest.raises(UsageError, match="unknown attack 'apgdd'; did you mean 'apgd'"):
        judged(balanced(3, 0), IMAGES, LABELS)


def test_a_folder_belongs_to_one_classifier(tmp_path: Path) -> None:
    linear, images, labels, eps = problem()
    first = judged(linear, images, labels, eps=eps, out=tmp_path)
    assert same(first, judged(linear, images, labels, eps=eps, out=tmp_path))
    judged(linear, images, labels, eps=eps / 2, out=tmp_path)
    header = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[0])
    # Another machine adds up otherwise.
    known = fingerprint(linear, Behaviour(3), linear(images) * (1 + 1e-6))
    compare(header, {**header, "classifier": known}, tmp_path, "attack")
    for name, other in {
        "sharper": answering(lambda logits: 1000 * logits),
        "negated": answering(lambda logits: -logits),
        "other classes": answering(lambda logits: logits[:, [1, 0, 2]]),
        "trained further": answering(
            lambda logits: logits + torch.tensor([0.0, 0.0, 0.02]) * logits.std()
        ),
        "more classes": balanced(10, 0),
    }.items():
        with pytest.raises(ParadiseError, match="holds another attack, with other classifier"):
            pytest.fail(f"{name}: {judged(other, images, labels, eps=eps, out=tmp_path)}")
    with pytest.raises(
        ParadiseError, match=r"with other images or labels, seed \(0, now 1\): .* another folder"
    ):
        judged(linear, images[:6], labels[:6], eps=eps, seed=1, out=tmp_path)
    assert same(first, judged(linear, images, labels, eps=eps, out=tmp_path))


def test_of_classifiers_that_answer_at_random_no_answers_are_compared(tmp_path: Path) -> None:
    linear, images, labels, eps = problem()

    class Noisy:
        draws = torch.Generator().manual_seed(0)

        def __call__(self, images: Tensor) -> Tensor:
            logits = linear(images)
            return logits + 0.1 * torch.randn(logits.shape, generator=self.draws)

    for _ in range(2):
        report = judged(Noisy(), images[:3], labels[:3], eps=eps, out=tmp_path)
        assert "answers at random" in "".join(report.notes)
    with pytest.raises(ParadiseError, match="with other classifier"):
        judged(linear, images[:3], labels[:3], eps=eps, out=tmp_path)


def test_a_source_of_the_same_name_is_another_source(tmp_path: Path) -> None:
    linear, images, labels, eps = problem()
    for seed in (1, 2):
        given: dict[str, Any] = {
            "suite": "transfer",
            "eps": 3 * eps,
            "sources": {"a": balanced(3, seed)},
        }
        assert same(
            judged(linear, images, labels, **given),
            judged(linear, images, labels, out=tmp_path, **given),
        )


def test_so_is_one_that_predicts_the_same_with_other_weights_or_other_code(
    tmp_path: Path,
) -> None:
    """Its predictions are those of the linear source, and its way to them another one."""
    linear, images, labels, eps = problem()
    source = balanced(3, 1)
    retrained = balanced(3, 1)
    retrained.weight = retrained.weight * torch.linspace(1, 1.001, 36)
    assert torch.equal(source(images).argmax(1), retrained(images).argmax(1))
    given: dict[str, Any] = {"suite": "transfer", "eps": 3 * eps, "out": tmp_path}
    lines = []
    for each in (source, retrained, lambda pixels: source(pixels.detach()), source):
        judged(linear, images, labels, sources={"a": each}, **given)
        lines.append((tmp_path / "ledger.jsonl").read_text().count("\n") - 1)
    # Each makes its images anew, and the first finds its own on record.
    assert lines == [N, 2 * N, 3 * N, 3 * N]


def changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("ledger.jsonl", lambda text: b"hello\n" + text, 1),
        ("ledger.jsonl", lambda text: b"[]\n" + text, 1),
        ("ledger.jsonl", lambda text: b"\xff" + text, 1),
        ("ledger.jsonl", lambda text: text.replace(b"\n{", b"\n", 1), 2),
        ("ledger.jsonl", lambda text: text.replace(b'"run"', b'"rum"'), 2),
    ],
)
def test_a_damaged_ledger_is_refused_and_left_alone(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], line: int
) -> None:
    linear, images, labels, _ = problem()
    judged(linear, images, labels, eps=0.9, out=tmp_path)  # all fall, at once
    changed(tmp_path / name, change)
    before = (tmp_path / name).read_bytes()
    for _ in range(2):  # also where the first refusal is still in hand
        with pytest.raises(
            ParadiseError, match=f"is damaged in line {line}: choose another folder"
        ):
            judged(linear, images, labels, eps=0.9, out=tmp_path)
    assert (tmp_path / name).read_bytes() == before


def test_a_cut_off_line_is_run_again(tmp_path: Path) -> None:
    linear, images, labels, eps = problem()
    whole = judged(linear, images, labels, eps=eps, out=tmp_path)
    changed(tmp_path / "ledger.jsonl", lambda text: text[: 2 * len(text) // 3])
    assert same(whole, judged(linear, images, labels, eps=eps, out=tmp_path))


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    linear, images, labels, eps = problem()
    judged(linear, images, labels, eps=eps, out=tmp_path)

    def meanwhile(*_: object) -> None:
        with pytest.raises(ParadiseError, match="in use by another attack"):
            judged(linear, images, labels, eps=eps, out=tmp_path)

    judged(linear, images, labels, eps=eps / 3, out=tmp_path, pulse=meanwhile)


OWN = NamedClassifier(balanced(3, 0), "own", "own")


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (np.zeros((5, 3, 6, 8), np.uint8), (3, 6, 8)),
        (np.zeros((5, 6, 8, 3), np.uint8), (3, 6, 8)),
        (np.zeros((5, 6, 8, 1), np.float32), (1, 6, 8)),
        (np.zeros((5, 6, 8), np.float64), (1, 6, 8)),
    ],
)
def test_archives_of_all_layouts(tmp_path: Path, stored: Any, wanted: tuple[int, ...]) -> None:
    pixel = (slice(None), 2, 5) if stored.shape[1] == 6 else (slice(None), slice(None), 2, 5)
    stored[pixel] = 51 if stored.dtype == np.uint8 else 0.2
    np.savez(tmp_path / "a.npz", images=stored, labels=np.array([0, 1, -1, 2, 0], np.int8))
    found = open_examples(OWN, str(tmp_path / "a.npz"))
    assert found.images.shape == (4, *wanted) and found.images.dtype == torch.float32
    expected = torch.zeros(4, *wanted)
    expected[:, :, 2, 5] = 0.2
    torch.testing.assert_close(found.images, expected)
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert found.notes == ("left out: 1 image without a label (-1)",)


def test_the_first_n_lie_within_the_first_more(tmp_path: Path) -> None:
    images = np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(50))
    few, more = (open_examples(OWN, str(tmp_path / "a.npz"), n=n).labels.tolist() for n in (5, 20))
    assert len(set(few)) == 5 and set(few) < set(more) and few != [0, 1, 2, 3, 4]
    assert len(open_examples(OWN, str(tmp_path / "a.npz")).labels) == 50
    np.savez(tmp_path / "b.npz", images=np.zeros((1200, 2, 2)), labels=np.zeros(1200, int))
    for every, count in ((False, 1000), (True, 1200)):
        assert len(open_examples(OWN, str(tmp_path / "b.npz"), every=every).labels) == count


def test_folders_of_class_folders(tmp_path: Path) -> None:
    for name, grey in (("b_dog", 102), ("a_cat", 51), ("c_newt", 255)):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (9, 7), (grey,) * 3).save(tmp_path / name / f"{number}.png")
    found = open_examples(OWN, str(tmp_path))
    assert found.images.shape == (6, 3, 7, 7) and found.classes == ("a_cat", "b_dog", "c_newt")
    torch.testing.assert_close(
        found.images[:, 0, 0, 0], torch.tensor([0.2, 0.4, 1.0])[found.labels]
    )
    assert found.label == f"all of {tmp_path.name}" and "no test split" in found.notes[0]
    small = open_examples(OWN, str(tmp_path), overrides=["data.size=4", "data.channels = 1"])
    assert small.images.shape == (6, 1, 4, 4)
    with pytest.raises(UsageError, match=r"width=3: .* can be set: data.size=NUMBER"):
        open_examples(OWN, str(tmp_path), overrides=["data.width=3"])
    with pytest.raises(UsageError, match=r"data\.size=big"):
        open_examples(OWN, str(tmp_path), overrides=["data.size=big"])


def test_data_sets_by_name() -> None:
    found = open_examples(OWN, "digits", n=7)
    assert found.images.shape == (7, 1, 8, 8) and float(found.images.max()) <= 1
    assert found.label.endswith(", test")


@pytest.mark.parametrize(
    ("arrays", "n", "message"),
    [
        ({"images": np.zeros((4, 2, 2), np.uint8)}, None, "has no array labels; it has: images"),
        ({"x": np.zeros(3)}, None, "has no array images or labels; it has: x"),
        (
            {"images": np.zeros((4, 9)), "labels": np.zeros(4, int)},
            None,
            r"shape \[4, 9\]; needed are",
        ),
        (
            {"images": np.zeros((4, 2, 2), int), "labels": np.zeros(4, int)},
            None,
            "images of type int64",
        ),
        (
            {"images": np.zeros((4, 2, 2)), "labels": np.zeros(3, int)},
            None,
            r"\[3\]; 4 integers are needed",
        ),
        ({"images": np.zeros((4, 2, 2)), "labels": np.zeros(4)}, None, "labels of type float64"),
        (
            {"images": np.eye(4, dtype=np.uint8)[None], "labels": np.zeros(1, int)},
            None,
            "uint8 pixels run from 0 to 1 of 255",
        ),
        (
            {"images": np.zeros((1, 2, 2)), "labels": np.array([2**64 - 1], np.uint64)},
            None,
            "labels up to 18446744073709551615: class numbers",
        ),
        (
            {"images": np.zeros((4, 2, 2)), "labels": -np.ones(4, int)},
            None,
            "has no labelled images",
        ),
        (
            {"images": np.zeros((0, 2, 2)), "labels": np.zeros(0, int)},
            None,
            "has no labelled images",
        ),
        (
            {"images": np.zeros((4, 2, 2)), "labels": np.zeros(4, int)},
            5,
            "--n 5: .* only 4 labelled images",
        ),
        (
            {"images": np.zeros((4, 2, 2)), "labels": np.zeros(4, int)},
            0,
            "--n must be at least 1, not 0",
        ),
        (
            {"images": np.zeros((4, 2, 2)), "labels": np.zeros(4, int)},
            -1,
            "--n must be at least 1, not -1",
        ),
    ],
)
def test_archives_that_are_refused(
    tmp_path: Path, arrays: Any, n: int | None, message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ParadiseError, match=message):
        open_examples(OWN, str(tmp_path / "a.npz"), n=n)


@pytest.mark.parametrize(
    ("batch_size", "width", "random_width"),
    [(None, 1024, 52), (2000, 1024, 52), (100, 100, 52), (40, 40, 40)],
)
def test_on_a_gpu_one_batch_fills_it_or_is_as_small_as_asked_for(
    batch_size: int | None, width: int, random_width: int
) -> None:
    """Of random answers 20 are asked at once: 52 images of them are about 1,024."""
    found = choose_compute(torch.device("cuda"), (32, 32), "fp32", batch_size)
    assert (found.width, found.random_width) == (width, random_width)
    assert found.blocks == (2 if batch_size == 2000 else 1)


def test_a_light_classifier_is_asked_about_more_images_at_a_time() -> None:
    """2^27 operations a batch: 784 x 1,000 products and as many sums are 1.6 million, so 85 images,
    of which 64 are allowed; 784 x 2,000 are 3.1 million, so 42; a heavy one stays at 2^14 / 784.
    """
    images, labels = torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
    found = []
    for classes in (1000, 2000, 20_000):
        layer = nn.Linear(784, classes)
        given = choose_compute(torch.device("cpu"), (28, 28), "fp32")
        subject = Subject.examine(lambda x, f=layer: f(x.flatten(1)), images, labels, "linf", given)
        found.append(subject.compute.width)
    assert found == [64, 42, 20]
    # As wide whatever is asked for: of 100 images there are two batches of 64, and five of 20.
    asked = choose_compute(torch.device("cpu"), (28, 28), "fp32", batch_size=100)
    shapes = [(each.width, each.blocks) for each in (asked, asked.for_work(1.0))]
    assert shapes == [(20, 5), (64, 2)]
