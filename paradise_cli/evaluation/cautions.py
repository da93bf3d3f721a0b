"""What a user should doubt of a measurement: collapse, accuracy of chance, labels that are shifted.

Each caution is one sentence with its likely cause.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from paradise_cli.core.proportions import Proportion
from paradise_cli.core.units import counted
from paradise_cli.information.latents import Latents

COLLAPSED = 0.05  # nats: a coin told right 58% of the time
FEWEST_PER_CLASS = 5  # images: with fewer, some renaming of the classes fits by chance
MOST_CLASSES = 2000  # the table of answers grows with the square
SHOWN = 3


def collapse_caution(
    latents: Latents,
    rate: float | None,
    alpha: float,
    training: str,
    worth: float = math.inf,
    gamma: float = 0.0,
) -> str | None:
    """Whether z says nothing of the image; `rate` in nats, None for a deterministic encoder.

    `training` is the setting that says how long it was, `worth` how much of the distortion a nat in
    z can save, `gamma` the weight of what is matched.
    """
    carried = latents.active + latents.concentric
    if (rate is None and carried > 0) or (rate is not None and rate >= COLLAPSED):
        return None
    found = "all means of z are one"
    if rate is not None:
        found = f"z carries {max(0.0, rate):.3f} nats of the image"
    pulls = {"objective.alpha": alpha, "objective.matching.gamma": gamma}
    settings = [f"{name} = {weight:g}" for name, weight in pulls.items() if weight > 0]
    # With neither nothing pulls posteriors together but a training that went wrong.
    if not settings:
        cause = "Likely cause: the training diverged or has hardly begun; lower optim.lr or"
        cause += f" raise {training}"
    else:
        cause = (
            f"Likely causes: {' or '.join(settings)} is too large for this distortion, or"
            f" {training} is too small; lower the one or raise the other"
        )
        # Then the collapsed encoder is the best one, and no training leads away from it.
        if alpha > 0 and alpha >= worth:
            cause += f". The first is likelier: a nat costs {alpha:g}, and saves at most {worth:g}"
    dimensions = f"{latents.active} of {latents.dimensions} dimensions are active"
    return f"collapsed: {found}, {dimensions}. {cause}"


def label_caution(predicted: Tensor, labels: Tensor, classes: Sequence[str]) -> str | None:
    """Whether predictions, int64 [n], are no better than chance, or right but for renamed classes.

    Labels, int64 [n], are the numbers of `classes`; -1 is left out. Chance is the best constant
    answer. Renaming means the one-to-one relabelling that makes most predictions right.
    """
    known = labels >= 0
    labels, predicted = labels[known].cpu(), predicted[known].cpu()
    n = len(labels)
    if n == 0:
        return None
    accuracy = Proportion.of(int((predicted == labels).sum()), n)
    # First: it is the better explanation of an accuracy at chance.
    if shifted := _shifted(predicted, labels, classes, accuracy):
        return shifted
    commonest = labels.bincount()
    chance = int(commonest.max()) / n
    if accuracy.value > chance:
        return None
    if accuracy.high < 1 / len(classes):
        return (
            f"accuracy {accuracy.value:.2%} is below that of guessing, {1 / len(classes):.2%}: the"
            " labels look shifted or wrong. Compare the classes of these data, and their order,"
            " with those of the training"
        )
    # Where all labels are one, to answer always the same is no guess but the whole truth.
    if chance == 1:
        return None
    few = n < FEWEST_PER_CLASS * len(classes)
    cause = f"{counted(n, 'image')} are too few to tell, " if few else ""
    return (
        f"accuracy {accuracy.value:.2%} is no better than always answering"
        f" '{classes[int(commonest.argmax())]}', {chance:.2%}. Likely cause: {cause}the training"
        " failed or has hardly begun, or these images and labels do not belong together"
    )


def _shifted(
    predicted: Tensor, labels: Tensor, classes: Sequence[str], accuracy: Proportion
) -> str | None:
    """Whether the answers are right for most images once classes are renamed one to one."""
    from scipy.optimize import linear_sum_assignment

    count = len(classes)
    if count > MOST_CLASSES or len(labels) < FEWEST_PER_CLASS * count:
        return None
    table = confusion(predicted, labels, count)
    true, answered = linear_sum_assignment(table.numpy(), maximize=True)
    renamed = Proportion.of(int(table[true, answered].sum()), len(labels))
    if renamed.value < 0.5 or renamed.low <= accuracy.high:
        return None
    moved = [(i, j) for i, j in zip(true, answered, strict=True) if i != j and table[i, j] > 0]
    examples = [f"'{classes[j]}' is answered for '{classes[i]}'" for i, j in moved[:SHOWN]]
    more = ", ..." if len(moved) > SHOWN else ""
    return (
        f"the labels look shifted: accuracy is {accuracy.value:.2%}, and would be"
        f" {renamed.value:.2%} if classes were renamed ({', '.join(examples)}{more}). Compare the"
        " classes of these data, and their order, with those of the training"
    )


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often each class was answered for each: int64 [true, answered], from int64 [n] each."""
    pairs = labels * classes + predicted
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
