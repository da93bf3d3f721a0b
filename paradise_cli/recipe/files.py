"""Recipe files: the shipped ones, the one that is meant, their text and their headers."""

import os
from pathlib import Path

from paradise_cli.core.errors import UsageError
from paradise_cli.core.registry import close_matches
from paradise_cli.core.resources import resource_dir
from paradise_cli.core.yaml import LONGEST

SCHEMA_FILE = "recipe.schema.json"
SUFFIXES = (".yaml", ".yml")
MOST_SHOWN = 3  # recipes that an unknown name may have meant
HEADINGS = ("command", "time", "expect", "paper's", "ours")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(resource_dir("recipes").glob("*.yaml"))}


def find_recipe(path_or_name: str) -> tuple[Path, bool]:
    """The recipe file meant, and whether it is a shipped one.

    That is taken where the given path does not exist. Raises UsageError where neither does.
    """
    try:
        path = Path(os.path.expanduser(path_or_name))
        found, is_folder = path.is_file(), path.is_dir()
    # No permission, a name that is too long, an unknown ~user.
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{path_or_name}: cannot be read: {error}") from error
    if found:
        return path, False
    # A folder `digits` in the current folder does not hide the recipe of that name.
    stem = path.stem if path.suffix in SUFFIXES else path.name
    shipped = shipped_recipes()
    if stem in shipped and path.suffix in ("", *SUFFIXES):
        return shipped[stem], True
    what = "is a folder, not a recipe" if is_folder else "no such recipe file"
    plain = stem.lower().replace("-", "_")
    begin = [name for name in shipped if name.startswith(plain)]
    close = begin[:MOST_SHOWN] or close_matches(stem, shipped, MOST_SHOWN)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise UsageError(
        f"{path_or_name}: {what}{hint}\n`paradise recipes ls` lists the {len(shipped)} shipped"
        " recipes"
    )


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, recipe files and folders whose name begins so, for a shell's completion."""
    plain = incomplete.replace("-", "_")
    names = [name for name in shipped_recipes() if name.startswith(plain)]
    parent = incomplete[: incomplete.rfind("/") + 1]
    for path in sorted(Path(parent or ".").glob("*")):
        found = f"{parent}{path.name}"
        if found.startswith(incomplete) and not path.name.startswith("."):
            if path.is_dir():
                names.append(f"{found}/")
            elif path.suffix in SUFFIXES:
                names.append(found)
    return names


def read_text(path: Path) -> str:
    """The text of a recipe file; raises UsageError where it is not text or cannot be read."""
    try:
        if path.stat().st_size > 4 * LONGEST:  # bytes that a character may take
            raise UsageError(f"{path}: larger than any recipe: is this one?")
        return path.read_bytes().decode("utf-8-sig")  # Windows editors put a mark in front
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not UTF-8 text (byte {error.start}): is this a recipe?"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def read_header(path: Path) -> dict[str, str]:
    """What a recipe's leading comment says: `shows`, then each of the headings."""
    header: dict[str, str] = {}
    key = "shows"
    for line in read_text(path).splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        word, colon, rest = text.partition(": ")
        if text.startswith("yaml-language-server") or not text:
            continue
        if colon and word in HEADINGS:
            key, text = word, rest.strip()
        # A line without a heading goes on with the last one.
        header[key] = f"{header[key]} {text}" if key in header else text
    return header
