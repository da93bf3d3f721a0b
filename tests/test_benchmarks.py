"""The scripts of benchmarks/ still start, and keep their numbers with all that says how."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paradise_cli.recipe.files import read_header, shipped_recipes

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TRIES = BENCHMARKS / "results" / "robust" / "search"
HELPERS = ("results.py", "robust_measures.py", "robust_runs.py", "robust_tables.py", "timing.py")
EVERY_HELP = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as left:
        assert left.code == 0, script
    else:
        raise AssertionError(f"{script} ran on after --help")
"""
SAVE = """
import sys
from pathlib import Path
import results
results.FOLDER = Path(sys.argv[1])
sys.argv = ["startup.py", "--nets", "/somewhere/net.safetensors"]
results.save("speed", what="Speed", columns={"x": "{x:.1f}", "y": "{y}"}, data="none",
             rows=[{"x": 1.25, "y": 2}, {"x": 3}])
assert results.read("speed")["rows"][0]["x"] == 1.25
import tables
print(tables.table("speed"))
"""


def python(*arguments: str) -> str:
    """What a new process prints that runs in benchmarks/."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=BENCHMARKS, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scripts() -> list[str]:
    """Those that measure something; torchattacks is asked for by one of them alone."""
    found = [path.name for path in sorted(BENCHMARKS.glob("*.py")) if path.name not in HELPERS]
    if importlib.util.find_spec("torchattacks") is None:
        found.remove("autoattack.py")
    return found


def test_each_script_starts_and_explains_itself() -> None:
    shown = python("-c", EVERY_HELP, *scripts())
    assert shown.count("usage:") == len(scripts())


def test_numbers_are_kept_with_how_they_were_measured(tmp_path: Path) -> None:
    """Rounded to a tie 1.25 is 1.2; a row without a field has an empty cell."""
    shown = python("-c", SAVE, str(tmp_path))
    assert "| x | y |\n|---|---|\n| 1.2 | 2 |\n| 3.0 |  |\n" in shown
    found = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert found["command"] == "python benchmarks/startup.py --nets net.safetensors"
    assert found["source"]["file"] == "startup.py" and len(found["source"]["sha256"]) == 16
    assert found["commit"] and found["machine"]


def test_a_file_that_does_not_say_how_it_was_measured_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.json").write_text('{"rows": [], "columns": {}, "what": "x"}')
    program = (
        f"import results; results.FOLDER = results.Path({str(tmp_path)!r}); results.read('bare')"
    )
    with pytest.raises(AssertionError, match=r"bare\.json: says nothing of data, n, interval"):
        python("-c", program)


def test_a_recipe_that_says_its_gamma_was_searched_has_its_tries_on_file() -> None:
    """The wording `with that of M` means the tries of method M on the same data."""
    said = {stem: read_header(path)["ours"] for stem, path in shipped_recipes().items()}
    pattern = re.compile(r"gamma, searched on validation images(?: with that of (\w+))?")
    found = {stem: match for stem, ours in said.items() if (match := pattern.search(ours))}
    assert found
    for stem, match in found.items():
        name = f"{stem.partition('_robust_')[0]}_robust_{match[1]}" if match[1] else stem
        rows = json.loads((TRIES / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        assert sum("gamma" in row["try"] for row in rows) >= 2, stem
