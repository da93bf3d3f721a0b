"""What a training measures after each epoch, to choose the weights that it keeps as best."""

from collections.abc import Callable, Mapping

import torch

from paradise_cli.data.base import Split
from paradise_cli.evaluation.metrics import TaskScores
from paradise_cli.evaluation.passes import one_pass
from paradise_cli.models import StochasticEncoder
from paradise_cli.objective.objective import Objective
from paradise_cli.training.loop import Validation
from paradise_cli.training.run_folder import PLAIN


def validation_of(
    models: Mapping[str, StochasticEncoder],
    objective: Objective,
    split: Split,
    device: torch.device,
) -> Callable[[], Validation]:
    """What a training loop calls after an epoch: distortions and accuracies at z = mu.

    Of each kind of weights in `models`; the metrics of all but the plain ones end in the kind. The
    score is the accuracy of the first supervised task, else minus the weighted distortion. Each
    module's mode is as it was afterwards.
    """
    # Once: moving the images each epoch would cost more than looking at them.
    split = split.to(device)

    def validate() -> Validation:
        metrics, scores = dict[str, float](), dict[str, tuple[float, ...]]()
        for kind, model in models.items():
            found, scores[kind] = _judged(model, objective, split, device)
            metrics |= {_name(name, kind): value for name, value in found.items()}
        return Validation(metrics, scores)

    return validate


def metrics_of(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of one kind of weights among the metrics of a validation, by their plain names."""
    plain = ("/".join(name.split("/")[:2]) for name in metrics)
    return {name: metrics[_name(name, kind)] for name in plain if _name(name, kind) in metrics}


def _name(metric: str, kind: str) -> str:
    """`accuracy/task`, or `accuracy/task/averaged`: an averaged curve lies beside the plain one."""
    return metric if kind == PLAIN else f"{metric}/{kind}"


def _judged(
    model: StochasticEncoder, objective: Objective, split: Split, device: torch.device
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Metrics of one model, and its score."""
    scores = [TaskScores(task) for task in objective.tasks]
    # In fp32 whatever the training's precision: which weights are best must not hang on it.
    one_pass(model, split, device, scores, None, None)
    metrics = {f"distortion/{score.task.name}": score.mean() for score in scores}
    accuracies = {
        f"accuracy/{score.task.name}": score.accuracy()
        for score in scores
        if score.task.distortion.supervised
    }
    distortion = sum(score.task.weight * score.mean() for score in scores)
    # Of several classifiers the first one decides, as the recipe's author ordered them.
    return metrics | accuracies, (next(iter(accuracies.values()), -distortion),)
