"""Where shipped recipes, the zoo and the user's cache live."""

import os
from pathlib import Path

from paradise_cli.core.errors import UsageError
from paradise_cli.core.temporary import sweep_out


def resource_dir(kind: str) -> Path:
    """The folder of shipped `recipes`, `zoo` or `claims`: in an installed package, or beside it."""
    package = Path(__file__).resolve().parents[1]
    # A wheel holds them inside the package, a checkout beside it.
    for candidate in (package / kind, package.parent / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation has no folder '{kind}'; reinstall paradise-cli")


def physical_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cache_dir() -> Path:
    """The user's cache.

    It is `$PARADISE_CACHE`, else `$XDG_CACHE_HOME/paradise`, else `~/.cache/paradise`. Raises
    UsageError where there is none of them.
    """
    named, base = (os.environ.get(name, "") for name in ("PARADISE_CACHE", "XDG_CACHE_HOME"))
    if named:
        return Path(named)
    # The XDG specification has relative ones ignored: each folder would get a cache of its own.
    if os.path.isabs(base):
        return Path(base) / "paradise"
    home = os.path.expanduser("~")
    # As for a user of a container whom nobody entered anywhere, it is still "~".
    if not os.path.isabs(home):
        raise UsageError(
            "no place for the cache: this user has no home folder; set PARADISE_CACHE to a folder"
        )
    return Path(home) / ".cache" / "paradise"


def cache_folder(*names: str) -> Path:
    """A folder of the user's cache, swept of what killed processes left unfinished there.

    Its files are often all there already, and then nobody writes beside them.
    """
    folder = cache_dir().joinpath(*names)
    sweep_out(folder)
    return folder


def data_dir() -> Path:
    """Where data sets lie and are downloaded to: `$PARADISE_DATA`, else the cache's `data`."""
    return Path(os.environ.get("PARADISE_DATA") or cache_dir() / "data")
