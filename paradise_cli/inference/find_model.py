"""Which weights file is meant by a name: answered before torch or anything heavy is loaded."""

import os
from pathlib import Path

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.inputs import require_files
from paradise_cli.core.registry import close_matches
from paradise_cli.core.storage import require_regular
from paradise_cli.hub.cards import CARD, card, require_trained, zoo_names
from paradise_cli.hub.pull import cached, is_repository
from paradise_cli.inference.default_model import default_model
from paradise_cli.training.run_folder import PLAIN, RunFolder


def find_model(path_or_name: str | Path | None) -> Path:
    """The weights file meant: of a run folder, itself, or of a name of the zoo or org/repo that is
    on this machine; None: the default.

    Raises UsageError for what is none of these, ParadiseError for a run that is not finished.
    """
    path_or_name = default_model()[0] if path_or_name is None else path_or_name
    if not isinstance(path_or_name, str | Path):
        kind = type(path_or_name).__name__
        raise UsageError(f"{path_or_name!r}: a model is named by a path or text, not by {kind}")
    try:
        path = Path(os.path.expanduser(path_or_name))
        is_folder, exists = path.is_dir(), path.exists()
    # No permission, a name that is too long, an unknown ~user.
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{path_or_name}: cannot be read: {error}") from error
    if is_folder:
        return _finished(RunFolder(path))
    if exists:
        require_files(path)
        return path
    name = str(path_or_name)
    there = cached(name)
    if there is not None:
        return there
    zoo = zoo_names()
    if name in zoo:
        require_trained(name, card(name))
        raise ParadiseError(f"{name} is not on this machine: paradise zoo pull {name}")
    close = close_matches(path.name, {each.name for each in _runs_near(path)} | set(zoo))
    near = [str(each) for each in _runs_near(path) if each.name in close]
    meant = [*near, *(name for name in close if name in zoo)]
    hint = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""
    # In a folder that is here a file was meant, not a repository.
    foreign = is_repository(name) and not path.parent.is_dir()
    pullable = f"\nof the Hub: paradise zoo pull {name}" if foreign else ""
    raise UsageError(
        f"{path_or_name}: no such run folder or weights file, and no model of the zoo"
        f"{hint}\nthe zoo: {', '.join(zoo)}{pullable}"
    )


def run_of(weights: Path) -> RunFolder | None:
    """The run that a weights file lies in; None where it lies in no run folder."""
    runs = (RunFolder(folder) for folder in (weights.parent, weights.parent.parent))
    return next((run for run in runs if run.recipe.is_file()), None)


def card_of_run(weights: Path) -> Path | None:
    """Where the card of a run's weights is; None for weights that lie in no run folder.

    That of the run is of its last plain weights; others have theirs beside them.
    """
    run = run_of(weights)
    if run is None:
        return None
    own = os.path.samefile(weights, run.model) if run.model.is_file() else False
    return run.path / CARD if own else weights.with_suffix(".yaml")


def short_name(weights: Path) -> str:
    """What tells weights apart in few words: the name of their run, else of their file."""
    weights = Path(os.path.abspath(weights))  # a run may be the current folder
    for run in (RunFolder(weights.parent), RunFolder(weights.parent.parent)):
        for which, path in run.weights.items():
            if path == weights:
                # The last plain ones are what a run is known by.
                return "-".join([run.path.name, *(w for w in which if w not in ("last", PLAIN))])
    return weights.stem


def _runs_near(path: Path) -> list[Path]:
    """Run folders beside the path, and in `runs`, where they are by default."""
    folders = dict.fromkeys([path.parent, Path("runs")])
    return [run.parent for folder in folders for run in sorted(folder.glob("*/recipe.yaml"))]


def _finished(run: RunFolder) -> Path:
    """The weights of a finished run."""
    require_regular(run.model)
    if run.model.is_file():
        return run.model
    if run.recipe.is_file():
        best = f", or use the best weights so far: {run.best}" if run.best.is_file() else ""
        raise ParadiseError(
            f"{run.path}: the training has not finished (there is no {run.model.name}); go on with"
            f" the same `paradise train` command{best}"
        )
    hides = str(run.path) in zoo_names()
    hidden = "; it hides the zoo's model of that name: call that from another folder"
    raise ParadiseError(
        f"{run.path}: not a run folder of `paradise train`: it has no {run.model.name}"
        f"{hidden if hides else ''}"
    )
