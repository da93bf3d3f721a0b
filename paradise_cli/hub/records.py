"""What is known of repositories of the Hub: kept beside their files, so that nobody asks twice."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from paradise_cli.core.resources import cache_dir
from paradise_cli.core.storage import write_json


@dataclass(frozen=True)
class Record:
    """A repository at one commit: of each file its `bytes`, and its `sha256` or what `git` calls
    it. `allow_imports` says whether the user lets its recipe import modules.
    """

    repo: str
    commit: str
    files: Mapping[str, Mapping[str, Any]]
    allow_imports: bool = False


def hub_cache() -> Path:
    """Where files of the Hub lie, as its client arranges them, and our records."""
    return cache_dir() / "hub"


def snapshot(repo: str, commit: str) -> Path:
    """The folder in which the client puts the files of a commit."""
    return hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots" / commit


def keep(record: Record, branch: str | None = None) -> Record:
    """Remember what a commit holds, and that a branch means it."""
    folder = _folder(record.repo)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{record.commit}.json", asdict(record))
    if branch is not None:
        write_json(_branch(record.repo, branch), {"commit": record.commit})
    return record


def recall(repo: str, commit: str) -> Record | None:
    """What was kept of a commit; None where nothing was, or it cannot be read."""
    found = _read(_folder(repo) / f"{commit}.json")
    try:
        return Record(**found)
    except TypeError:
        return None


def recall_branch(repo: str, branch: str) -> str | None:
    """The commit that a branch meant when it was asked for."""
    return _read(_branch(repo, branch)).get("commit")


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


def forget(repo: str) -> None:
    """Drop all that is known of a repository."""
    shutil.rmtree(_folder(repo), ignore_errors=True)


def _folder(repo: str) -> Path:
    return hub_cache() / "records" / repo.replace("/", "--")


def _branch(repo: str, branch: str) -> Path:
    # A branch may be called a/b, and must not name a folder elsewhere.
    return _folder(repo) / f"branch {quote(branch, safe='')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
