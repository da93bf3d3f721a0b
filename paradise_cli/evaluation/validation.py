"""What a training measures after each epoch, to choose the weights that it keeps as best."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from paradise_cli.core.machine import full_fp32
from paradise_cli.core.modes import eval_mode
from paradise_cli.core.randomness import image_keys, permutation
from paradise_cli.data.base import Split, batches
from paradise_cli.evaluation.metrics import TaskScores
from paradise_cli.evaluation.passes import one_pass
from paradise_cli.inference.batches import block_size
from paradise_cli.models import StochasticEncoder
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.objective.objective import Objective, Task
from paradise_cli.perturbations import Sampler
from paradise_cli.perturbations.adversarial import margins
from paradise_cli.training.loop import Validation
from paradise_cli.training.run_folder import PLAIN


def validation_of(
    models: Mapping[str, StochasticEncoder],
    objective: Objective,
    split: Split,
    device: torch.device,
    robust: tuple[Sampler, int] | None = None,
) -> Callable[[], Validation]:
    """What a training loop calls after an epoch: distortions and accuracies at z = mu.

    Of each kind of weights in `models`; the metrics of all but the plain ones end in the kind. The
    score is the accuracy of the first supervised task, and then, or alone, minus the weighted
    distortion; with an attack and the number of images to attack as `robust`, that task's accuracy
    under attack comes first. Tasks whose label no image has are left out, and where none is left
    there is no score. Each module's mode is as it was afterwards.
    """
    # Once: moving the images each epoch would cost more than looking at them.
    split = split.to(device)
    missing = unlabelled(objective, split)
    withstood = None
    if robust is not None and objective.judged not in missing:
        withstood = _under_attack(objective, split, device, *robust)

    def validate() -> Validation:
        metrics, scores = dict[str, float](), dict[str, tuple[float, ...]]()
        tasks = [task for task in objective.tasks if task not in missing]
        for kind, model in models.items() if tasks else ():
            found, score = _judged(model, tasks, split, device)
            if withstood is not None:
                task, accuracy = withstood(model)
                found[f"robust/{task}"] = accuracy
                # Accuracy decides among equals: a training that is not robust at all has many.
                score = (accuracy, *score)
            scores[kind] = score
            metrics |= {_name(name, kind): value for name, value in found.items()}
        return Validation(metrics, scores)

    return validate


def unlabelled(objective: Objective, split: Split) -> list[Task]:
    """The tasks whose label no image of a split has."""
    return [
        task
        for task in objective.tasks
        if task.distortion.supervised and not bool((split.labels[:, task.target] >= 0).any())
    ]


def unlabelled_note(objective: Objective, split: Split) -> str | None:
    """What to know of a validation split without the labels of a task, in a sentence."""
    missing = unlabelled(objective, split)
    if not missing:
        return None
    tasks = [task for task in objective.tasks if task not in missing]
    how = "no best weights are chosen"
    if tasks:
        by = next((f"accuracy of {t.name}" for t in tasks if t.distortion.supervised), None)
        by = by or f"distortion of {', '.join(task.name for task in tasks)}"
        how = f"the best weights are chosen by the {by}"
    names = " or ".join(task.name for task in missing)
    return f"no validation image has a label for {names}: its scores are left out, and {how}"


def metrics_of(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of one kind of weights among the metrics of a validation, by their plain names."""
    plain = ("/".join(name.split("/")[:2]) for name in metrics)
    return {name: metrics[_name(name, kind)] for name in plain if _name(name, kind) in metrics}


def robust_accuracy(
    model: StochasticEncoder, task: Task, split: Split, device: torch.device, attack: Sampler
) -> float:
    """Share of labelled images that z = mu classifies rightly both as they are and attacked.

    In eval mode and fp32, at the one shape of encoding; the attack's noise depends on the image's
    number in the split alone, so that all epochs and kinds of weights are asked the same.
    """
    encoder = EncoderWithHead(model, model.heads[task.name])
    rows = block_size(model.in_shape)
    order = torch.arange(len(split))
    right = torch.zeros((), dtype=torch.int64, device=device)
    labelled = torch.zeros_like(right)
    with eval_mode(model), full_fp32(device):
        for batch in batches(split, order=order, batch_size=rows, device=device):
            # Padded: the last batch too has the one shape, whose rounding all images share.
            missing = rows - len(batch.images)
            images = pad(batch.images, (0, 0) * 3 + (0, missing))
            labels = pad(batch.labels[:, task.target], (0, missing), value=-1)
            keys = image_keys(pad(batch.index, (0, missing)), "validation")
            attacked = attack(images, labels, encoder, keys)
            withstood = _right(encoder, images, labels) & _right(encoder, attacked, labels)
            right += withstood.sum()
            labelled += (labels >= 0).sum()
    return int(right) / max(int(labelled), 1)


@torch.no_grad()
def _right(encoder: EncoderWithHead, images: Tensor, labels: Tensor) -> Tensor:
    logits = encoder.logits(encoder.encode(images).mu)
    return (margins(logits, labels) < 0) & (labels >= 0)


def _under_attack(
    objective: Objective, split: Split, device: torch.device, attack: Sampler, images: int
) -> Callable[[StochasticEncoder], tuple[str, float]]:
    """The name of the task that judges, and a model's robust accuracy in it on so many images."""
    task = objective.judged
    assert task is not None, "a recipe is refused that attacks a model without labels"
    chosen = judged_part(split, task, images)
    return lambda model: (task.name, robust_accuracy(model, task, chosen, device, attack))


def judged_part(split: Split, task: Task | None, images: int) -> Split:
    """At most so many images of a split, with labels where there is a task that reads them."""
    usable = torch.arange(len(split))
    if task is not None:
        usable = (split.labels[:, task.target] >= 0).nonzero().flatten()
    # Not the first ones: splits may be sorted by class. The same ones in every run.
    drawn = permutation(len(usable), "validation attack")[:images]
    return split.select(usable[drawn.sort().values])


def _name(metric: str, kind: str) -> str:
    """`accuracy/task`, or `accuracy/task/averaged`: an averaged curve lies beside the plain one."""
    return metric if kind == PLAIN else f"{metric}/{kind}"


def _judged(
    model: StochasticEncoder, tasks: Sequence[Task], split: Split, device: torch.device
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Metrics of one model, and its score."""
    scores = [TaskScores(task) for task in tasks]
    # In fp32 whatever the training's precision: which weights are best must not hang on it.
    one_pass(model, split, device, scores, None, None)
    metrics = {f"distortion/{score.task.name}": score.mean() for score in scores}
    accuracies = {
        f"accuracy/{score.task.name}": score.accuracy()
        for score in scores
        if score.task.distortion.supervised
    }
    distortion = sum(score.task.weight * score.mean() for score in scores)
    # Of several classifiers the first one decides, as the recipe's author ordered them. Of a few
    # images accuracies are often equal: then an epoch that had hardly learnt would be the best.
    return metrics | accuracies, (*list(accuracies.values())[:1], -distortion)
