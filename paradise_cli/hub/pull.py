"""Puts the verified files of a model on this machine: packaged, from the cache, or from the Hub."""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.storage import file_digest
from paradise_cli.hub.ask import Progress, ask
from paradise_cli.hub.cards import (
    CARD,
    CONFIG,
    WEIGHTS,
    Card,
    OnTheHub,
    card,
    card_file,
    packaged_file,
    require_trained,
    zoo_names,
)
from paradise_cli.hub.records import (
    COMMIT,
    HubFile,
    Record,
    hub_cache,
    keep,
    parse_record,
    recall,
    recall_branch,
    snapshot,
    usable_cache,
)

_OURS = (CONFIG, CARD, WEIGHTS)
"""What is fetched of a repository: the first is counted as a download, the last is waited for."""
# They become names of files, which may have 255 bytes, with each slash of a revision as three.
_REPO = re.compile(
    r"(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,80}))?", re.ASCII
)


@dataclass(frozen=True)
class Pulled:
    """The weights of a model on this machine, and where they came from just now.

    `repo` and `revision`, a commit, are None of a packaged model.
    """

    name: str
    path: Path
    bytes: int
    origin: Literal["packaged", "cache", "hub"]
    repo: str | None = None
    revision: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return vars(self) | {"path": str(self.path)}


@dataclass(frozen=True)
class Plan:
    """What a pull would do: the file, its size, and where it would come from."""

    name: str
    origin: Literal["packaged", "cache", "hub"]
    bytes: int
    repo: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:.1f} MB"
        if self.origin == "hub":
            return f"{self.name}: {size} would come from {self.repo} at {self.revision}"
        where = "comes with this package" if self.origin == "packaged" else "is in the cache"
        return f"{self.name}: {size}, {where}; nothing would be fetched"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return dict(vars(self))


def is_repository(name: str) -> bool:
    """Whether a name could be one of the Hub, as org/repo or org/repo@revision."""
    return place_of(name) is not None


@usable_cache()
def pull(
    name: str,
    *,
    offline: bool = False,
    allow_imports: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """The verified weights of a zoo name or `org/repo[@revision]`.

    A packaged file is taken first, then the cache, then the Hub, always at one commit: what a
    branch means is asked for once and recorded. `offline` never asks. `allow_imports` lets the
    recipe of a repository's model import modules. Raises UsageError for an unknown name,
    ParadiseError for what cannot be had or is not what it should be.
    """
    known = _record(name, offline)
    if known is None:
        path = _packaged(name)
        return Pulled(name, path, path.stat().st_size, "packaged")
    if allow_imports:
        known = keep(replace(known, allow_imports=True))
    return _from_hub(name, known, offline, progress)


@usable_cache()
def plan(name: str, *, offline: bool = False) -> Plan:
    """What `pull` would do, without any file, and nothing recorded; errors as `pull`."""
    known = _record(name, offline, kept=False)
    if known is None:
        return Plan(name, "packaged", _packaged(name).stat().st_size)
    lacking = [path.name for path in _lacking(known)]
    size = sum(known.files[each]["bytes"] for each in lacking or [WEIGHTS])
    return Plan(name, "hub" if lacking else "cache", size, known.repo, known.commit)


@usable_cache()
def cached(name: str) -> Path | None:
    """The weights of a name where they are on this machine already; nobody is asked for them."""
    packaged = packaged_file(name)
    if packaged is not None:
        return packaged
    if name in zoo_names():
        on_hub = card(name).hub
        known = None if on_hub is None else _listed(on_hub)
    else:
        place = place_of(name)
        known = None if place is None else recalled(*place)
    if known is None:
        return None
    path = snapshot(known.repo, known.commit) / WEIGHTS
    # A pull that was killed before it had looked at its file leaves one that nobody has verified.
    return path if _is(path, known.files[WEIGHTS]) else None


def card_of(name: str) -> Card:
    """The card of a zoo name, or of `org/repo[@revision]` that was pulled with one.

    That of a repository says that its file came from there, and calls the model as it is called
    here. Raises UsageError for an unknown name, ParadiseError for what was not pulled and a
    repository without a card.
    """
    place = place_of(name)
    if name not in zoo_names() and Path(name).exists():
        raise UsageError(
            f"{name} is a folder or file here, and only models of the zoo and of repositories have"
            f" a card by their name: `paradise evaluate {name}` measures it, and `paradise zoo card"
            f" {name}` writes its card"
        )
    if place is None:
        return card(name)
    known = recalled(*place)
    folder = None if known is None else snapshot(known.repo, known.commit)
    if known is None or folder is None or not (folder / WEIGHTS).is_file():
        raise ParadiseError(f"{name} was not pulled: paradise zoo pull {name}")
    path = folder / CARD
    if CARD not in known.files or not path.is_file():
        raise ParadiseError(
            f"{name}: its repository has no {CARD}, so nobody says what was measured of it;"
            f" `paradise evaluate {name}` measures it"
        )
    if not _is(path, known.files[CARD]):
        raise ParadiseError(f"{path} is not the file that was pulled: pull {name} again")
    return _as_pulled(card_file(path), known).called(name)


def _as_pulled(card: Card, known: Record) -> Card:
    """A card whose author had the file at hand, for somebody who has it of the Hub."""
    if card.packaged is None:
        return card
    on_hub = OnTheHub(repo=known.repo, revision=known.commit, files={WEIGHTS: card.packaged})
    return card.model_copy(update={"packaged": None, "hub": on_hub})


def place_of(name: str) -> tuple[str, str] | None:
    """The repository and the revision that `org/repo[@revision]` names; None for another name."""
    asked = _REPO.fullmatch(name)
    return (asked["repo"], asked["revision"] or "main") if asked else None


def recalled(repo: str, revision: str) -> Record | None:
    """What was recorded of a revision: a commit, or what a branch meant when it was asked for."""
    commit = revision if COMMIT.fullmatch(revision) else recall_branch(repo, revision)
    return recall(repo, commit) if commit else None


def _record(name: str, offline: bool, *, kept: bool = True) -> Record | None:
    """What is known of the files of a name on the Hub; None where they come with this package.

    What the Hub is asked for is `kept`, or not.
    """
    place = place_of(name)
    if place is None:
        return _of_the_zoo(name, card(name))
    if Path(name).exists():
        raise UsageError(
            f"{name} is a folder or file here: it needs no pulling; use it by its name"
        )
    known = recalled(*place)
    if known is not None:
        return known
    found = _looked_up(*place, offline)
    return keep(found, place[1]) if kept else found


def _of_the_zoo(name: str, card: Card) -> Record | None:
    require_trained(name, card)
    if card.packaged is not None and packaged_file(name) is not None:
        return None
    if card.hub is None:
        raise ParadiseError(f"{name}: its packaged file is missing; reinstall paradise-cli")
    return _listed(card.hub)


def _listed(on_hub: OnTheHub) -> Record:
    """The record of what a card names, with what the user allowed of it."""
    files: dict[str, HubFile] = {
        name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in on_hub.files.items()
    }
    before = recall(on_hub.repo, on_hub.revision)
    allowed = before is not None and before.allow_imports
    return Record(on_hub.repo, on_hub.revision, files, allowed)


def _packaged(name: str) -> Path:
    """The packaged weights of a name, verified."""
    path, known = packaged_file(name), card(name).packaged
    assert path is not None and known is not None, "else there is a record"
    if file_digest(path) != known.sha256:
        raise ParadiseError(f"{path} is not the file that its card names; reinstall paradise-cli")
    return path


def _looked_up(repo: str, revision: str, offline: bool) -> Record:
    """What the Hub says of a revision."""
    if offline:
        raise ParadiseError(
            f"{repo}@{revision} was not pulled yet, and --offline asks nobody; pull it where there"
            " is a network"
        )
    found = ask(repo, "look", revision=revision)
    commit = str(found["commit"])
    # It becomes the name of a folder, and who names a commit wants no other one.
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
        raise ParadiseError(f"{repo}: the Hub names another commit, or none, for {revision}")
    if WEIGHTS not in found["files"]:
        raise ParadiseError(f"{repo} has no {WEIGHTS}; it is no model of PARADISE's")
    # What else lies there, and what it is called, is of no use here.
    files = {name: each for name, each in found["files"].items() if name in _OURS}
    try:
        return parse_record({"repo": repo, "commit": commit, "files": files})
    except ParadiseError as error:
        raise ParadiseError(f"{repo}: the Hub's answer makes no sense: {error}") from error


def _from_hub(name: str, known: Record, offline: bool, progress: Progress | None) -> Pulled:
    path = snapshot(known.repo, known.commit) / WEIGHTS

    def pulled(origin: Literal["cache", "hub"]) -> Pulled:
        size = path.stat().st_size
        return Pulled(name, path, size, origin, known.repo, known.commit)

    lacking = _lacking(known)
    # Offline the weights will do: whoever reads the card finds out that it is damaged.
    if not lacking or (offline and path not in lacking):
        return pulled("cache")
    if offline:
        raise ParadiseError(
            f"{known.repo}: the cache has no whole {WEIGHTS}, and --offline asks nobody"
        )
    sizes = {file: wanted["bytes"] for file, wanted in _ours(known).items()}
    for _ in range(2):
        for damaged in lacking:
            _remove(damaged)
        ask(
            known.repo, "fetch", progress=progress,
            commit=known.commit, files=sizes, cache=str(hub_cache()),
        )  # fmt: skip
        # The client checks no content: what is of the right length is right to it, and stays.
        lacking = _lacking(known)
        if not lacking:
            return pulled("hub")
    for damaged in lacking:
        _remove(damaged)
    named = " and ".join(path.name for path in lacking)
    raise ParadiseError(
        f"{known.repo}: {named} came twice with another content than it should have; nothing of it"
        " was kept. Try again later, or tell who published it"
    )


def _ours(known: Record) -> dict[str, HubFile]:
    """The files that are fetched of a commit, in that order."""
    return {name: known.files[name] for name in _OURS if name in known.files}


def _lacking(known: Record) -> list[Path]:
    """Those that are not in the cache as they should be."""
    folder = snapshot(known.repo, known.commit)
    return [
        folder / name for name, wanted in _ours(known).items() if not _is(folder / name, wanted)
    ]


def _is(path: Path, wanted: HubFile) -> bool:
    """Whether a file is there, and what a card or the Hub says of it."""
    if not path.is_file() or path.stat().st_size != wanted["bytes"]:
        return False
    if wanted["sha256"] is not None:
        return file_digest(path) == wanted["sha256"]
    content = path.read_bytes()
    # What git calls a file, of which the Hub knows no other digest.
    named = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return named.hexdigest() == wanted.get("git")


def _remove(path: Path) -> None:
    """A file of the client's cache, with what its link points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
