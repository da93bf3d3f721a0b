"""From a finished run and its card to what is sent to the Hub."""

import shlex
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.storage import file_digest
from paradise_cli.hub.cards import CARD, TRAINED, WEIGHTS, Card, File, card_file
from paradise_cli.hub.page import page_files
from paradise_cli.hub.push import Push
from paradise_cli.inference.find_model import card_of_run, find_model
from paradise_cli.inference.trained_file import read_trained
from paradise_cli.models.weights import read_model, save_weights
from paradise_cli.training.run_folder import RunFolder


def prepare_push(run: str | Path, repo: str, card: str | Path | None = None) -> Push:
    """What a push of a finished run to `org/repo` would send; nobody is asked.

    `run` is its folder, or one of its weights files; `card` is a YAML file, by default the run's
    `card.yaml`, and of a packaged model its own. Raises UsageError for a name that is none of a
    repository, ParadiseError for a run that is not finished, damaged weights, and a card that is
    missing, bad or of another model.
    """
    _require_name(repo)
    _require_finished(Path(run).expanduser())
    weights = find_model(run)
    path = _card_of(run, weights) if card is None else Path(card).expanduser()
    known = File(sha256=file_digest(weights), bytes=weights.stat().st_size)
    found = card_file(path)
    trained = read_trained(weights)
    _require_about(found, path, weights, known, trained.info.label)
    content = _without_folders(weights)
    if content is not None:
        known = File(sha256=sha256(content).hexdigest(), bytes=len(content))
    recipe = _published(trained.recipe.resolved())
    metadata = {"recipe": recipe, "data": trained.info.to_json()}
    # Commands call it by the name that others have, and its digest is that of what they get.
    sent = found.called(repo)
    if found.packaged is not None:
        sent = sent.model_copy(update={"packaged": known})
    return Push(repo, weights, page_files(sent, metadata, known, repo), content)


def _published(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without the folders of this machine: that of the data, and of the first weights.

    What those weights were called is kept: a model that began from others must not seem to have
    begun from none.
    """
    data, train = recipe["data"] | {"root": None}, recipe["train"]
    init = train.get("init")
    if init is not None and Path(init).expanduser().is_absolute():
        train = train | {"init": Path(init).name}
    return {**recipe, "data": data, "train": train}


def _without_folders(weights: Path) -> bytes | None:
    """The weights file with the published recipe, its tensors as they are; None where the file has
    that recipe already.
    """
    tensors, metadata = read_model(weights)
    recipe = _published(metadata["recipe"])
    if recipe == metadata["recipe"]:
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        save_weights(path, tensors, metadata | {"recipe": recipe})
        return path.read_bytes()


def _require_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
        reason = "" if "/" in repo else "the organisation or user is missing"
    except HFValidationError as error:
        reason = " ".join(str(error).split())
    if reason:
        raise UsageError(f"{repo}: write where to push as org/repo ({reason})")


def _require_finished(path: Path) -> None:
    near = [path.parent, path.parent.parent] if path.is_file() else []
    folders = [path] if path.is_dir() else near
    for run in map(RunFolder, folders):
        # Also of its best weights so far: what is published is what a training ended with.
        if run.recipe.is_file() and not run.model.is_file():
            raise ParadiseError(
                f"{run.path}: the training has not finished, and only a finished run is pushed; go"
                " on with the same `paradise train` command"
            )


def _card_of(run: str | Path, weights: Path) -> Path:
    """Where the card of weights is by default; raises ParadiseError where there is none."""
    in_a_run = card_of_run(weights)
    # As in the zoo: a card beside the file that it is of.
    for path in (weights.with_suffix(".yaml"), in_a_run or weights.parent / CARD):
        if path.is_file():
            return path
    named = shlex.quote(str(run))
    draft = f"`paradise zoo card {named}` drafts one, or name yours by --card (in Python card=)"
    if in_a_run is None:
        draft = f"`paradise zoo card {named} --out card.yaml` drafts one; name it by --card"
        draft += " (in Python card=)"
    raise ParadiseError(f"{path}: there is no card, which says what was measured: {draft}")


def _require_about(card: Card, path: Path, weights: Path, known: File, label: str) -> None:
    """A card's numbers are of the weights that it names, and of no others."""
    if card.status != TRAINED:
        raise ParadiseError(f"{path}: the card says {card.status!r}; a model is pushed once it is")
    there = card.packaged or (card.hub and card.hub.files.get(WEIGHTS))
    if there and there.sha256 != known.sha256:
        raise ParadiseError(
            f"{path} is the card of other weights than {weights}: it names sha256"
            f" {there.sha256[:12]}..., and these are {known.sha256[:12]}..."
        )
    # The Hub lists a model under its data, and re-encoded images are others.
    if card.trained_on != label:
        raise ParadiseError(
            f"{path}: trained_on is {card.trained_on!r}, and {weights} says {label!r}; write that"
        )
