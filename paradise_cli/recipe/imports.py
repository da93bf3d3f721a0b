"""Modules that a recipe names: imported before it is checked, they register its own components."""

import importlib
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

from paradise_cli.core.registry import failed_put_back
from paradise_cli.core.storage import file_digest
from paradise_cli.core.user_code import settings_put_back
from paradise_cli.core.yaml import Document


def import_modules(document: Document) -> bool:
    """Import what the recipe's `imports` name; False where one fails, with the reason recorded.

    Importing runs a module. Only modules on Python's own path are found: neither the folder of a
    recipe nor that of a run is added to it, so that a model of somebody else brings no code along.
    """
    names = document.data.get("imports")
    before = len(document.problems)
    # What is not a list of texts, the schema complains of.
    for index, name in enumerate(names if isinstance(names, list) else []):
        if isinstance(name, str) and (problem := _problem(name, document.source)):
            document.complain(("imports", index), problem)
    return len(document.problems) == before


def _problem(name: str, source: str) -> str | None:
    """Why a module cannot be imported, None once it is."""
    if not all(part.isidentifier() for part in name.split(".")):
        return f"'{name}' is not the name of a module; write it as in `import`: my_package.heads"
    try:
        with settings_put_back(), failed_put_back():
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or f"{name}.".startswith(f"{error.name}."):
            return f"there is no module '{name}'{_remedy(name, source)}"
        return f"module '{name}' needs '{error.name}', which is not installed"
    # A module may raise anything, and without a guard of its main program also leave.
    except (Exception, SystemExit) as error:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        kind = type(error).__name__
        return f"module '{name}' fails while it is imported: {kind}: {text}{_place(error)}"
    return None


def _place(error: BaseException) -> str:
    """` (file:line)` of the user's own line that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    # A line that cannot be parsed never ran: it is in no frame.
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno))
    # Python's own import stands in the frames as well, and frozen there.
    machinery = (__file__, importlib.__file__)
    own = [place for place in places if place[0] not in machinery and not place[0].startswith("<")]
    return f" ({own[-1][0]}:{own[-1][1]})" if own else ""


def _remedy(name: str, source: str) -> str:
    """What to do about a module that Python does not find."""
    top = name.partition(".")[0]
    for folder in (Path(), Path(source).parent):
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            return f": {top} lies in {folder.resolve()}; run `PYTHONPATH={folder} paradise ...`"
    return "; install it, or name its folder in PYTHONPATH"


def module_digests(names: Iterable[str]) -> dict[str, str]:
    """The start of the sha256 of each imported module's own file; of one without a file, nothing.

    Of a package it is the file that is imported by its name, and not what that imports in turn.
    """
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    return {name: file_digest(Path(file))[:16] for name, file in files.items() if file}


def module_folders(names: Iterable[str]) -> list[str]:
    """Folders in which another process finds these imported modules, but for installed ones."""
    # An installed module is found anyway, and its folder must not come before the standard library.
    paths = sysconfig.get_paths()
    installed = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed.append(site.getusersitepackages())
    folders = []
    for top in dict.fromkeys(name.partition(".")[0] for name in names):
        module = sys.modules[top]
        for place in [*getattr(module, "__path__", ())] or [getattr(module, "__file__", None)]:
            if place and not any(Path(place).is_relative_to(folder) for folder in installed):
                folders.append(str(Path(place).absolute().parent))
    return list(dict.fromkeys(folders))
