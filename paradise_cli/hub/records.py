"""What is known of repositories of the Hub: kept beside their files, so that nobody asks twice."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired
from urllib.parse import quote

from pydantic import Field, TypeAdapter, ValidationError

# Of typing since Python 3.12 alone can pydantic read it.
from typing_extensions import TypedDict

from paradise_cli.core.errors import ParadiseError, printable
from paradise_cli.core.resources import cache_folder
from paradise_cli.core.storage import write_json
from paradise_cli.hub.cards import WEIGHTS, Commit, Repo, Sha256

COMMIT = re.compile(r"[0-9a-f]{40}")


class HubFile(TypedDict):
    """What the Hub says of a file: large ones have a sha256, small ones what git calls them."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256 | None
    git: NotRequired[Commit | None]


@dataclass(frozen=True)
class Record:
    """A repository at one commit: of each file its `bytes`, and its `sha256` or what `git` calls
    it. `allow_imports` says whether the user lets its recipe import modules.
    """

    repo: Repo
    commit: Commit
    files: Mapping[str, HubFile]
    allow_imports: bool = False


@contextmanager
def usable_cache() -> Iterator[None]:
    """Raise ParadiseError where the operating system does not let us use the cache."""
    try:
        yield
    except OSError as error:
        raise ParadiseError(
            f"the cache {hub_cache()} cannot be used: {error.strerror or error}; mend it, or set"
            " PARADISE_CACHE to another folder"
        ) from error


def hub_cache() -> Path:
    """Where files of the Hub lie, as its client arranges them, and our records."""
    return cache_folder("hub")


def snapshot(repo: str, commit: str) -> Path:
    """The folder in which the client puts the files of a commit."""
    return hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots" / commit


def keep(record: Record, branch: str | None = None) -> Record:
    """Remember what a commit holds, and that a branch means it."""
    try:
        write_json(_folder(record.repo) / f"{record.commit}.json", asdict(record))
        if branch is not None:
            write_json(_branch(record.repo, branch), {"commit": record.commit})
    except ParadiseError as error:
        raise ParadiseError(f"{error}; or set PARADISE_CACHE to another folder") from error
    return record


def knows(repo: str) -> bool:
    """Whether anything is kept of a repository."""
    return any(_folder(repo).glob("*.json"))


def recall(repo: str, commit: str) -> Record | None:
    """What was kept of a commit; None where nothing was, or it cannot be read."""
    try:
        found = parse_record(_read(_folder(repo) / f"{commit}.json"))
    except ParadiseError:
        return None
    whole = (found.repo, found.commit) == (repo, commit) and WEIGHTS in found.files
    return found if whole else None


def parse_record(value: Mapping[str, Any]) -> Record:
    """A record of JSON values; raises ParadiseError for anything else."""
    try:
        return TypeAdapter(Record).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        raise ParadiseError(f"no record of a repository: {where}: {first['msg']}") from error


def recall_branch(repo: str, branch: str) -> str | None:
    """The commit that a branch meant when it was asked for."""
    commit = str(_read(_branch(repo, branch)).get("commit"))
    return commit if COMMIT.fullmatch(commit) else None


def record_of(path: Path) -> Record | None:
    """What is known of a file of the cache, however it is named; None for files elsewhere.

    Where nothing is known of it, nothing is allowed.
    """
    real, cache = path.resolve(), hub_cache().resolve()
    if not real.is_relative_to(cache):
        return None
    folder = cache / real.relative_to(cache).parts[0]
    repo = folder.name.removeprefix("models--").replace("--", "/", 1)
    # A file of the client's cache is a link, and its content lies elsewhere in that folder.
    links = [link for link in folder.glob("snapshots/*/*") if link.resolve() == real]
    commits = sorted(link.parent.name for link in links)
    known = [recall(repo, commit) or Record(repo, commit, {}) for commit in commits]
    allowed = [record for record in known if record.allow_imports]
    return next(iter([*allowed, *known]), Record(repo, "main", {}))


def forget(repo: str, commit: str | None = None) -> None:
    """Drop all that is known of a repository, or of one commit, and of branches that meant it."""
    if commit is None:
        shutil.rmtree(_folder(repo), ignore_errors=True)
        return
    for path in _folder(repo).glob("*.json"):
        if _read(path).get("commit") == commit:
            path.unlink()


def _folder(repo: str) -> Path:
    return cache_folder("hub", "records", repo.replace("/", "--"))


def _branch(repo: str, branch: str) -> Path:
    # A branch may be called a/b, and must not name a folder elsewhere.
    return _folder(repo) / f"branch {quote(branch, safe='')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    # Cut short or written by somebody else: as good as none.
    except (ValueError, RecursionError, TypeError):
        return {}
