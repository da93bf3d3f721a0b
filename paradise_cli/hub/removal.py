"""Removes what was pulled of a repository of the Hub."""

import shutil
from pathlib import Path

from paradise_cli.core.errors import UsageError
from paradise_cli.hub.pull import place_of, recalled
from paradise_cli.hub.records import forget, knows, snapshot, usable_cache


@usable_cache()
def remove(name: str) -> int:
    """Delete what was pulled of `org/repo`, or of `org/repo@revision` that commit alone; how many
    bytes that were.

    Raises UsageError for a name that is none of a repository, and for what was never pulled.
    """
    place = place_of(name)
    if place is None:
        raise UsageError(f"{name}: only what was pulled can be removed; name it as org/repo")
    repo, revision = place
    folder = snapshot(repo, "x").parents[1]
    there = sorted(path.name for path in folder.glob("snapshots/*"))
    commit = None
    if "@" in name:
        known = recalled(repo, revision)
        if known is None:
            raise UsageError(
                f"{name} was not pulled, only {', '.join(there) or 'nothing'} of {repo}; without"
                " @revision all is removed"
            )
        commit = known.commit
    elif not folder.is_dir() and not knows(repo):
        raise UsageError(f"{name} was not pulled: there is no {folder}")
    # A pull that failed before its first file has recorded what the Hub said, and no more.
    if not folder.is_dir() or commit not in (None, *there):
        forget(repo, commit)
        return 0
    before = _size(folder)
    if commit is None or there == [commit]:
        shutil.rmtree(folder)
        forget(repo)
        return before
    shutil.rmtree(folder / "snapshots" / commit)
    forget(repo, commit)
    # Commits share their files: what another one still links to stays.
    linked = {link.resolve() for link in folder.glob("snapshots/*/*")}
    for path in (folder / "blobs").glob("*"):
        if path.resolve() not in linked:
            path.unlink()
    return before - _size(folder)


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; links to them count for nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
