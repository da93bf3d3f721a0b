"""Drafts the card of a model: what its file says, what is measured, and the words of its author."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from paradise_cli import __version__
from paradise_cli.attacks.session.phase import Pulse
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.build import epochs_of
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.machine import commit
from paradise_cli.core.storage import file_digest
from paradise_cli.core.units import significant
from paradise_cli.evaluation.evaluate import Bar, silent
from paradise_cli.hub.cards import TRAINED, WEIGHTS
from paradise_cli.inference.loading import LoadedModel
from paradise_cli.recipe.files import shipped_recipes
from paradise_cli.runs.work import work_of
from paradise_cli.verification.measure import Measured, plain_numbers, robust_number

WORDS = ("summary", "recipe", "licence", "intended_use", "limits")
"""What nobody can measure: taken from the card before, or left empty for its author."""

CHOSEN = ("default_for", "default_to", "hub")
"""What a card need not have, and keeps where it has it."""


def drafted(
    loaded: LoadedModel,
    name: str,
    before: Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    attacks: Sequence[AttackSettings] = (),
    n: int,
    seed: int = 0,
    device: str = "auto",
    bar: Bar = silent,
    pulses: Callable[[], AbstractContextManager[Pulse | None]] = nullcontext,
) -> dict[str, Any]:
    """The card of a trained model as YAML's values, in the order of its schema.

    `name` is what its commands call it, `before` the values of an earlier card, of which the words,
    what it is the default for and the Hub's part are kept, and of the same weights the numbers
    under attacks that are not asked for now. Raises ParadiseError in a
    checkout with changes, whose numbers nobody could measure again, for images that give no number,
    and errors as of evaluating and attacking.
    """
    code = measured_by()
    plain = plain_numbers(loaded, overrides, seed=seed, bar=bar)
    if not plain:
        raise ParadiseError(
            f"{name}: these images give none of a card's numbers (accuracy wants labels, a rate"
            " images enough); name others by --set data.root=FOLDER"
        )
    called = shlex.quote(name)
    numbers = [(found, f"paradise evaluate {called}") for found in plain]
    for settings in attacks:
        folder = Path("attacks") / f"card-{Path(name).name}-{settings.suite}-n{n}-s{seed}"
        with pulses() as pulse:
            found = robust_number(
                loaded.source, settings, overrides, n=n, device=device, out=folder, pulse=pulse
            )
        numbers.append((found, _attack_command(called, settings, n)))
    said = _arguments(overrides, seed)
    metrics = [
        _metric(each, _task(each, loaded), command + said, seed, code) for each, command in numbers
    ]
    return _card(loaded, before, metrics)


def under_attack(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The robust accuracies of a card, or of a draft, which may hold anything."""
    metrics = card.get("metrics")
    listed = metrics if isinstance(metrics, list) else []
    return [e for e in listed if isinstance(e, dict) and isinstance(e.get("attack"), dict)]


def is_of(card: Mapping[str, Any], packaged: Mapping[str, Any]) -> bool:
    """Whether a card, or a draft, is of the weights with this digest and size."""
    files = card["hub"].get("files") if isinstance(card.get("hub"), dict) else None
    on_hub = files.get(WEIGHTS) if isinstance(files, dict) else None
    return packaged in (card.get("packaged"), on_hub)


def _card(
    loaded: LoadedModel, before: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    words = {key: before.get(key, "") for key in WORDS}
    packaged = {
        "sha256": file_digest(loaded.source),
        "bytes": loaded.source.stat().st_size,
    }
    anew = [_threat(each) for each in under_attack({"metrics": metrics})]
    # Hours of attacks are not thrown away; of other weights they say nothing.
    earlier = under_attack(before) if is_of(before, packaged) else []
    kept = [each for each in earlier if _threat(each) not in anew]
    work = work_of(loaded.recipe)
    epochs = epochs_of(loaded.recipe, loaded.info.train_size)
    return {
        "summary": words["summary"],
        "status": TRAINED,
        "recipe": words["recipe"] or _recipe(loaded.recipe.name),
        "trained_on": loaded.info.label,
        "licence": words["licence"],
        "intended_use": words["intended_use"],
        "limits": words["limits"],
        "training": {"epochs": epochs, "forward": work.forward, "back": work.back},
        "packaged": packaged,
        **{key: before[key] for key in CHOSEN if key in before},
        "metrics": [*metrics, *kept],
    }


def _threat(metric: Mapping[str, Any]) -> list[Any]:
    """What a robust accuracy was measured under, whatever came of it."""
    return [metric["attack"].get(key) for key in ("suite", "norm", "eps")]


def _recipe(name: str) -> str:
    """The shipped recipe that says this of itself, else what it says."""
    file = name.replace("-", "_")
    return file if file in shipped_recipes() else name


def _attack_command(name: str, settings: AttackSettings, n: int) -> str:
    return (
        f"paradise attack {name} --suite {settings.suite} --norm {settings.norm}"
        f" --eps {settings.eps_text} --n {n}"
    )


def measured_by() -> str:
    """The commit of this code, or its version where it was installed without one."""
    found = commit()
    if found is not None and "+" in found:
        raise ParadiseError(
            "the code was changed since its last commit, so nobody could measure these numbers"
            " again: commit first"
        )
    return found or __version__


def _arguments(overrides: Sequence[str], seed: int) -> str:
    """As they are repeated elsewhere: a folder of this machine is nobody else's."""
    shown = ["data.root=FOLDER" if text.startswith("data.root=") else text for text in overrides]
    # Quoted, as a label of several words has to be.
    settings = "".join(f" --set {shlex.quote(text)}" for text in shown)
    return settings + (f" --seed {seed}" if seed else "")


def _task(found: Measured, loaded: LoadedModel) -> str | None:
    """The task that a number is of, where the model has several of that kind."""
    classifies = [head.kind == "logits" for head in loaded.model.heads.values()]
    return found.task if classifies.count(found.name != "distortion") > 1 else None


def _metric(
    found: Measured, task: str | None, command: str, seed: int, code: str
) -> dict[str, Any]:
    low, high = found.interval
    metric = {
        "name": found.name,
        **({"task": task} if task else {}),
        "value": _shown(found.value),
        "interval": [_shown(low), _shown(high)],
        **({"unit": found.unit} if found.unit else {}),
        "data": found.data,
        "n": found.n,
        "seed": seed,
        "commit": code,
        "command": command,
    }
    return metric if found.attack is None else metric | {"attack": found.attack.model_dump()}


def _shown(value: float) -> float:
    """To digits that a reader can use."""
    return float(significant(value, 6))
