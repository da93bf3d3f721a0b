"""What stands beside a model's weights on the Hub: its page, configuration and results."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.units import counted
from paradise_cli.core.yaml import dump
from paradise_cli.hub.cards import CARD, CONFIG, WEIGHTS, Card, File, Metric

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

README = "README.md"
RESULTS = ".eval_results/paradise-"
"""How our result files begin; what others put beside them is theirs."""
PAPER = "https://proceedings.mlr.press/v119/hoang20a.html"
CLASSIFIER = "image-classification"
_PLAIN_LICENCE = re.compile(r"[a-z0-9.-]+")


def page_files(card: Card, metadata: Mapping[str, Any], weights: File, repo: str) -> dict[str, str]:
    """The text of each file of a repository but the weights, by its path there.

    `metadata` are those of the weights. All numbers come from the card, and are read back by the
    Hub's client: raises ParadiseError where it would read others.
    """
    config = {"library_name": "paradise", "recipe": metadata["recipe"], "data": metadata["data"]}
    files = {
        CONFIG: json.dumps(config, indent=2, sort_keys=True) + "\n",
        README: f"---\n{_front_matter(card, repo)}\n---\n\n{_page(card, metadata, weights, repo)}",
    }
    # As it was checked: who pulls the model measures again by it.
    said = card.model_dump(mode="json", exclude_unset=True)
    files[CARD] = dump(said)
    # A file each, as the Hub asks for where one benchmark has several values.
    for number, metric in enumerate(card.metrics, 1):
        files[f"{RESULTS}{number}-{_slug(metric.title)}.yaml"] = _result_file(metric)
    _read_back(card, files[README], repo)
    return files


def results(card: Card) -> "list[EvalResult]":
    """The card's metrics as the client's model-index has them."""
    from huggingface_hub import EvalResult

    task = _task(card)
    found = []
    for metric in card.metrics:
        how = metric.model_dump(mode="json", exclude={"name", "value", "data"}, exclude_none=True)
        label, split = metric.measured_on
        found.append(
            EvalResult(
                task_type=task, dataset_type=_dataset(label), dataset_name=label,
                dataset_split=split, metric_type=_slug(metric.title), metric_name=metric.title,
                metric_value=metric.value, metric_args=how,
            )
        )  # fmt: skip
    return found


def entry(metric: Metric) -> "EvalResultEntry":
    """A metric as the Hub's results files have it."""
    from huggingface_hub import EvalResultEntry

    low, high = metric.interval
    notes = f"{metric.data}; n = {metric.n}, interval {low} to {high}, seed {metric.seed}"
    if metric.attack is not None:
        notes += f", gradient masking {metric.attack.verdict}"
    return EvalResultEntry(
        dataset_id=_dataset(metric.label), task_id=_slug(metric.title), value=metric.value,
        notes=f"{notes}; commit {metric.commit}: {metric.command}",
    )  # fmt: skip


def _result_file(metric: Metric) -> str:
    from huggingface_hub import eval_result_entries_to_yaml

    values = eval_result_entries_to_yaml([entry(metric)])
    # PyYAML's own, not ours: the Hub reads YAML 1.1.
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _front_matter(card: Card, repo: str) -> str:
    from huggingface_hub import ModelCardData

    known = _PLAIN_LICENCE.fullmatch(card.licence)
    # Name and results at once: results that are set later make an index without a name.
    data = ModelCardData(
        library_name="paradise",
        pipeline_tag=_task(card),
        tags=["paradise", "rate-distortion", "stochastic-encoder"],
        datasets=[_dataset(card.trained_on)],
        license=card.licence if known else "other",
        license_name=None if known else _dataset(card.licence).lower(),
        model_name=_name(repo),
        eval_results=results(card),
    )
    text: str = data.to_yaml()
    return text


def _read_back(card: Card, text: str, repo: str) -> None:
    """The client writes pages that it refuses to read, so each is read before it is sent."""
    from huggingface_hub import ModelCard

    try:
        read = ModelCard(text).data
    except ValueError as error:
        raise ParadiseError(f"{README}: the Hub's client cannot read it back: {error}") from error
    # It puts metrics of the same data together.
    found, wanted = read.get("eval_results", []), results(card)
    same = len(found) == len(wanted) and all(each in found for each in wanted)
    if read.get("model_name") != _name(repo) or not same:
        raise ParadiseError(f"{README}: the Hub's client reads other results than the card's")


def _page(card: Card, metadata: Mapping[str, Any], weights: File, repo: str) -> str:
    """The page as people read it."""
    recipe, data = metadata["recipe"], metadata["data"]
    shape = " x ".join(map(str, data["shape"]))
    latents = recipe["model"]["latent_dim"]
    command = f"encode photos/ --model {repo} --out z.npy"
    calls = ['print(model.encode("photos/").mean)  # float32, [images, latents]']
    if _task(card) == CLASSIFIER:
        command = f"predict photos/ --model {repo}"
        calls.append('print(model.predict("photos/").labels())')
    lines = [
        f"# {_name(repo)}", "",
        card.summary.strip(), "",
        f"A stochastic encoder: an image of {shape} becomes a Gaussian over {latents} latents."
        f" Trained with PARADISE ([Hoang et al., ICML 2020]({PAPER})) by the recipe"
        f" `{card.recipe}` on {card.trained_on}{_took(card)}. The whole recipe is in `{CONFIG}`.",
        "", "## How to use it", "",
        "With the Python package `paradise-cli`:", "",
        "```sh", f"paradise zoo pull {repo}", f"paradise {command}", "```", "",
        "```python", "import paradise_cli", "", f'model = paradise_cli.load("{repo}")', *calls,
        "```", "", *_imports(recipe),
        "## What was measured", "", *_table(card), "",
        f"`{WEIGHTS}`: {weights.bytes:,} bytes, sha256 `{weights.sha256}`.", "",
        "## Intended use", "", card.intended_use.strip(), "",
        "## Limits", "", card.limits.strip(), "",
        "## Licence", "", card.licence, "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(card: Card) -> list[str]:
    columns = ["metric", "value", "interval", "data", "n", "seed", "verdict", "commit", "command"]
    rows = [columns, ["---"] * len(columns)]
    for metric in card.metrics:
        low, high = map(metric.shown, metric.interval)
        verdict = "" if metric.attack is None else f"gradient masking {metric.attack.verdict}"
        rows.append([
            metric.title, metric.shown(metric.value), f"{low} to {high}", metric.data,
            f"{metric.n:,}", str(metric.seed), verdict, metric.commit[:7], f"`{metric.command}`",
        ])  # fmt: skip
    # A bar within a cell would end it.
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def _took(card: Card) -> str:
    took = card.training
    if took is None:
        return ""
    epochs = counted(took.epochs, "epoch")
    return f", {epochs} of {took.forward:g} forward and {took.back:g} back passes"


def _imports(recipe: Mapping[str, Any]) -> list[str]:
    names = recipe.get("imports")
    if not names:
        return []
    return [
        f"Its recipe imports {', '.join(names)}, which is code of its own: install that, and pull"
        " with `--allow-imports` if you trust it.", "",
    ]  # fmt: skip


def _task(card: Card) -> str:
    classifies = any(metric.name == "accuracy" for metric in card.metrics)
    return CLASSIFIER if classifies else "image-feature-extraction"


def _name(repo: str) -> str:
    return repo.rpartition("/")[2]


def _dataset(label: str) -> str:
    """A label as the Hub writes names of data sets."""
    return re.sub(r"[^\w.-]+", "-", label)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
