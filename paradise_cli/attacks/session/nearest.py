"""Which wrong classes lie nearest to an image, by the tangent of the classifier there."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paradise_cli.attacks.protocol.lanes import input_gradient
from paradise_cli.attacks.protocol.losses import others
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.machine import whole_batch
from paradise_cli.perturbations.threat import Threat

CANDIDATES = 9
"""Of how many of the likeliest wrong classes the distance is taken: each costs a gradient."""


_FAR = 1e30


class Nearness:
    """How near the classes lie to the images of a subject, each image asked about once.

    A class is as far as the difference of the logits has to fall, divided by how fast it can in
    this norm (Melamed et al. 2024; docs/attack.md, Fast): the likeliest class need not be the one
    that is reached first.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._known = torch.zeros(len(subject.images), dtype=torch.bool)
        self._scores = torch.full_like(subject.logits, -torch.inf, dtype=torch.float32)

    def of(
        self, rows: Sequence[int], threat: Threat, pulse: Callable[[int], None] = lambda done: None
    ) -> Tensor:
        """Scores [N, classes], the higher the nearer, of these rows; -inf for no candidate.

        The threat says in which norm; its eps changes nothing. `pulse` gets how many are done.
        """
        asked = torch.tensor(rows, dtype=torch.int64)
        fresh = asked[~self._known[asked]]
        done = len(asked) - len(fresh)
        for part in torch.split(fresh, self._subject.compute.width) if len(fresh) else ():
            pulse(done)
            self._scores[part] = _scores(self._subject, threat, part)
            self._known[part] = True
            done += len(part)
        return self._scores


def _scores(subject: Subject, threat: Threat, rows: Tensor) -> Tensor:
    """The scores of rows that fit into one batch, [n, classes]."""
    width, device = subject.compute.width, subject.compute.device
    # Of one shape, as every batch of an attack: what is nearest depends on the image alone.
    padded = whole_batch(rows, width)
    images, labels = subject.images[padded].to(device), subject.labels[padded].to(device)
    wrong = others(subject.logits[padded].to(device), labels)
    # Stable, as `jobs_of` ranks classes.
    order = wrong.sort(dim=1, descending=True, stable=True).indices
    targets = order[:, : min(CANDIDATES, wrong.shape[1] - 1)]
    scores = torch.full_like(wrong, -torch.inf, dtype=torch.float32)
    for target in targets.unbind(1):
        away = _distance(subject, threat, images, labels, target)
        scores.scatter_(1, target[:, None], -away[:, None])
    return scores[: len(rows)].cpu()


def _distance(
    subject: Subject, threat: Threat, images: Tensor, labels: Tensor, targets: Tensor
) -> Tensor:
    """How far each target [B] is from its image [B, C, H, W], in the norm of the threat, [B]."""
    itself = subject.classifier_of(subject.function)  # and no copy compiled for an attack
    asked = images.clone().requires_grad_(True)
    with torch.enable_grad():  # the caller may have turned gradients off
        logits = itself(asked).float()
        pair = logits.gather(1, torch.stack([labels, targets], 1))  # [B, 2]
        gap = pair[:, 0] - pair[:, 1]
        gradient = input_gradient(gap, asked)
    # By the best step of length 1, the gradient falls by its dual norm.
    slope = (gradient * threat.steepest(gradient)).flatten(1).sum(1)
    away = gap.detach() / slope.clamp(min=torch.finfo(slope.dtype).tiny)
    # Where no gradient comes back a class is as far as can be, and yet a candidate.
    return away.nan_to_num(_FAR, _FAR)
