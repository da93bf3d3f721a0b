"""What a robust training is watched by: a few images, probed each epoch (method.md 4.6)."""

from collections.abc import Callable

import torch

from paradise_cli.core.machine import full_fp32
from paradise_cli.core.modes import eval_mode
from paradise_cli.core.randomness import image_keys, permutation
from paradise_cli.data.base import Split, batches
from paradise_cli.evaluation.validation import judged_part, robust_accuracy
from paradise_cli.inference.batches import block_size
from paradise_cli.information.distances import DISTANCES
from paradise_cli.information.gaussian import DiagonalGaussian, Gaussian, joined
from paradise_cli.information.latents import latents
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.objective.objective import Objective
from paradise_cli.perturbations import SAMPLERS, Sampler

IMAGES = 256
SEARCH_STEPS = 5
ATTACK_STEPS = 10


def probe_of(
    model: StochasticEncoder,
    objective: Objective,
    split: Split,
    device: torch.device,
    eps: float | None,
    multi_step: bool = True,
) -> Callable[[], dict[str, float]]:
    """What to call after an epoch for what `training.alarms` judges, on at most 256 images.

    `informative_latents`: how many tell these images apart. Within L-infinity `eps`, if there is
    one: `shift/random` and `shift/adversarial`, how far a corner of the ball and a search in it
    move the posterior; `shift/unrelated`, how far those of two images are apart, drawn at random;
    all as scale-free L1, and none of a single image. Of a classifier, `accuracy/one_step` under
    FGSM from the image itself, and under PGD-10 as `accuracy/multi_step`, unless not `multi_step`.
    In eval mode and fp32, on the same images with the same noise in every epoch (method.md 4.6).
    """
    task = objective.judged
    part = judged_part(split, task, IMAGES).to(device)
    attacks: dict[str, Sampler] = {}
    if eps is not None and task is not None:
        # From the image itself: the very step that plain FGSM trains on, and overfits to.
        attacks["one_step"] = SAMPLERS["adversarial"](eps=eps, start="image")
        if multi_step:
            attacks["multi_step"] = SAMPLERS["adversarial"](
                eps=eps, steps=ATTACK_STEPS, loss="margin"
            )

    def probe() -> dict[str, float]:
        found = _posterior_facts(model, part, device, eps)
        for name, attack in attacks.items():
            assert task is not None
            found[f"accuracy/{name}"] = robust_accuracy(model, task, part, device, attack)
        return found

    return probe


def _posterior_facts(
    model: StochasticEncoder, part: Split, device: torch.device, eps: float | None
) -> dict[str, float]:
    samplers: dict[str, Sampler] = {"image": SAMPLERS["image"]()}
    if eps is not None:
        samplers["random"] = SAMPLERS["corner"](eps=eps)
        # L1, which is defined also for an encoder without noise.
        samplers["adversarial"] = SAMPLERS["adversarial"](
            eps=eps, steps=SEARCH_STEPS, loss="posterior", distance="l1"
        )
    posteriors = {
        name: _posterior(model, part, device, sampler) for name, sampler in samplers.items()
    }
    image = posteriors.pop("image")
    known = latents(image)
    found: dict[str, float] = {"informative_latents": known.active + known.concentric}
    # A single image has no other one, and a shift nothing to be held against.
    if eps is None or len(part) < 2:
        return found
    # What a shift is to be held against: half of it, and an image is as near to another one.
    order = permutation(len(part), "unrelated images")
    partner = torch.empty_like(order)
    # Not the next image: splits may be sorted by class, and neighbours alike. No image is its own.
    partner[order] = order.roll(1)
    posteriors["unrelated"] = DiagonalGaussian(image.mu[partner], image.sigma[partner])
    apart = DISTANCES["l1"]().scale_free
    shifts = {
        f"shift/{name}": float(apart(image, other).mean()) for name, other in posteriors.items()
    }
    return found | shifts


def _posterior(
    model: StochasticEncoder, part: Split, device: torch.device, sampler: Sampler
) -> DiagonalGaussian:
    """The posteriors of a sampler's views of these images."""
    encoder = EncoderWithHead(model, None)
    found: list[Gaussian] = []
    order, rows = torch.arange(len(part)), block_size(model.in_shape)
    with eval_mode(model), full_fp32(device):
        for batch in batches(part, order=order, batch_size=rows, device=device):
            keys = image_keys(batch.index, "probe")
            views = sampler(batch.images, torch.zeros_like(batch.index), encoder, keys)
            with torch.no_grad():
                found.append(model.encode(views))
    return joined(found).marginals()
