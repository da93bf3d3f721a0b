"""From a finished run and its card to what is sent to the Hub."""

from pathlib import Path

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.storage import file_digest
from paradise_cli.hub.cards import CARD, TRAINED, WEIGHTS, Card, File, card_file
from paradise_cli.hub.page import page_files
from paradise_cli.hub.push import Push
from paradise_cli.inference.find_model import find_model
from paradise_cli.inference.trained_file import read_trained
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
    path = _card_of(weights) if card is None else Path(card).expanduser()
    if not path.is_file():
        raise ParadiseError(
            f"{path}: there is no card, which says what was measured: `paradise zoo card {run}`"
            " drafts one, or name yours by --card"
        )
    known = File(sha256=file_digest(weights), bytes=weights.stat().st_size)
    found = card_file(path)
    trained = read_trained(weights)
    _require_about(found, path, weights, known, trained.info.label)
    metadata = {"recipe": trained.recipe.resolved(), "data": trained.info.to_json()}
    root = metadata["recipe"]["data"].get("root")
    return Push(repo, weights, page_files(found, metadata, known, repo), root)


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


def _card_of(weights: Path) -> Path:
    """Where the card of weights is by default."""
    # As in the zoo: a card beside the file that it is of.
    own = weights.with_suffix(".yaml")
    if own.is_file():
        return own
    folders = (weights.parent, weights.parent.parent)
    return next((f for f in folders if RunFolder(f).recipe.is_file()), weights.parent) / CARD


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
