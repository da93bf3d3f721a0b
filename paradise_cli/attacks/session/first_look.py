"""What a first look at a classifier and its data says, before attacks are spent on them."""

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import input_gradient
from paradise_cli.attacks.protocol.losses import others
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.proportions import lower_bound, wilson

_IMAGES = 32  # whose gradient is looked at
_NO_GRADIENT = (
    "no gradient of the logits comes back from the classifier (NumPy, no_grad, detach or argmax"
    " inside?): attacks that follow gradients can only guess"
)
_LUCK = 0.01  # the chance that some shift of the labels seems right and is not
_PIXELS = 50  # of a kind, before their gradients say something of the kind


def first_look(subject: Subject) -> tuple[str, ...]:
    """Lines for people: accuracy no better than chance, shifted labels, gradients that are lost."""
    return (*_on_accuracy(subject), *_on_gradients(subject), *_on_numbers(subject))


def _on_accuracy(subject: Subject) -> list[str]:
    n, classes = len(subject.labels), subject.behaviour.classes
    correct, chance = int(subject.correct.sum()), 1 / classes
    most = wilson(correct, n)[1]
    # A few images that are wrong say little: half way from chance to certainty may be its accuracy.
    if correct > chance * n or most > (1 + chance) / 2:
        return []
    level = "at chance" if most >= chance else "below chance"
    start = f"clean accuracy is {correct / n:.1%}, {level} ({chance:.1%} for {classes} classes): "
    return [start + _cause(subject)]


def _cause(subject: Subject) -> str:
    """The likeliest reason for an accuracy no better than chance."""
    predicted, labels = subject.logits.argmax(1), subject.labels
    n, classes = len(labels), subject.behaviour.classes
    if n > 1 and bool((predicted == predicted[0]).all()):
        return f"it gives class {int(predicted[0])} for every image (wrong pixel range or weights?)"
    # Labels from 1 to n in place of 0 to n - 1, or a class folder that came or went.
    counts = ((predicted - labels) % classes).bincount(minlength=classes)
    counts[0] = 0
    shift, shifted = int(counts.argmax()), int(counts.max())
    # Well above chance, although it is the best of so many shifts.
    if classes > 2 and lower_bound(shifted, n, _LUCK / (classes - 1)) > 1.5 / classes:
        return (
            f"the labels look shifted: with {shift} added to each (modulo {classes}) it would be"
            f" {shifted / n:.1%}"
        )
    return (
        "wrong labels, classes in another order, another normalisation, or weights that were not"
        " loaded?"
    )


def _on_gradients(subject: Subject) -> list[str]:
    if subject.behaviour.gradient != "flows":
        return [_NO_GRADIENT]
    rows = subject.correct_rows(_IMAGES)
    if not rows:
        return []
    try:
        moves, pixels = _gradient(subject, rows) != 0, subject.images[rows]
    except torch.OutOfMemoryError:
        return []  # the first attack says what to do
    if not moves.any():
        return [_NO_GRADIENT]
    # A network that looks at few pixels only, as a small decision stump, says nothing of the kind.
    inner = moves[(pixels > 0) & (pixels < 1)]
    if len(inner) < _PIXELS or float(inner.double().mean()) < 0.5:
        return []
    dead = [bound for bound in (0, 1) if _dead(moves[pixels == bound])]
    if not dead:
        return []
    share = sum(float((pixels == bound).double().mean()) for bound in dead)
    return [
        f"pixels that are exactly {' or '.join(map(str, dead))} ({share:.0%} of all) have gradient"
        " 0, and others do not: is x.clamp(0, 1), hardtanh or ReLU the first layer? Attacks that"
        " follow gradients do not see that such pixels could change"
    ]


def _on_numbers(subject: Subject) -> list[str]:
    lines = []
    if subject.behaviour.half:
        lines.append(
            "the classifier answers in float16, whose gradients underflow to exactly 0 where it is"
            " sure: that hides them from attacks and is no defence; attack the same weights in"
            " float32 (.float()) or bfloat16"
        )
    if subject.behaviour.masks:
        lines.append(
            "logits of minus infinity count as classes that are never predicted; where they are the"
            " logarithm of a probability that is 0, no gradient comes back: return log_softmax"
        )
    return lines


def _dead(moves: Tensor) -> bool:
    return len(moves) >= _PIXELS and not moves.any()


def _gradient(subject: Subject, rows: list[int]) -> Tensor:
    """Of the margin, which no softmax saturates, in the pixels of these rows, [n, C, H, W]."""
    device = subject.compute.device
    images, labels = subject.images[rows].to(device), subject.labels[rows].to(device)
    asked = images.clone().requires_grad_(True)
    with torch.enable_grad():  # the caller may have turned gradients off
        logits = subject.classifier_of(subject.function)(asked)
        margin = others(logits, labels).amax(1) - logits.gather(1, labels[:, None])[:, 0]
        return input_gradient(margin, asked).cpu()
