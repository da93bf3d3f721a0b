"""The commands and the Python of README and docs/, as a reader would type them.

Every `paradise` line must name commands and options that exist. Blocks without a "not run" mark are
run, page by page in one empty folder; long work is cut short by further options.
"""

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.core import TyperGroup
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import UsageError
from tests.pages import ROOT, Block, blocks, pages

ORDER = (
    "README.md", "train.md", "rate.md", "measure.md", "use.md", "sweep.md", "attack.md",
    "certify.md",
)  # fmt: skip
"""README's main job leaves the run that other pages go on with."""
SHORTER = {
    "train": ["--set", "train.epochs=1", "--set", "train.frontier=[]"],
    "sweep": ["--set", "train.epochs=1"],
    "attack": ["--suite", "quick", "--n", "6", "--audited", "1"],
    "certify": ["--n", "3", "--samples", "200"],
}
ALL = [block for page in pages() for block in blocks(page)]


USAGE_ERROR = typer.BadParameter.__base__
"""click's, which newer versions of typer bring along."""


def parsed(words: list[str]) -> None:
    """Raises USAGE_ERROR for an option or value that does not exist, UsageError for a command."""
    command = typer.main.get_command(app)
    context = command.make_context("paradise", list(words))
    while isinstance(command, TyperGroup):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    "words", [words for block in ALL for words in block.commands], ids=" ".join
)
def test_each_command_names_what_exists(words: list[str]) -> None:
    parsed(words)


@pytest.mark.parametrize(
    ("words", "error"),
    [(["trian", "digits"], UsageError), (["train", "digits", "--epoch", "3"], USAGE_ERROR)],
)
def test_a_command_that_does_not_exist_is_found(words: list[str], error: type) -> None:
    with pytest.raises(error):
        parsed(words)


def test_each_block_is_of_a_known_kind() -> None:
    """A block that is neither run nor parsed nor data would be checked by nothing."""
    odd = [str(block) for block in ALL if block.kind not in ("sh", "python", "yaml", "text")]
    assert odd == []


def photos(folder: Path) -> None:
    """A few colour photos in two class folders."""
    draw = np.random.default_rng(0)
    for number in range(24):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)


def run(block: Block, names: dict[str, object]) -> None:
    """Run a block in the current folder, or write the file that it shows."""
    if block.file_name is not None:
        Path(block.file_name).write_text(block.text, encoding="utf-8")
    elif block.kind == "python":
        with redirect_stdout(io.StringIO()):
            exec(compile(block.text, str(block), "exec"), names)
    for words in block.commands:
        result = CliRunner().invoke(app, [*words, *SHORTER.get(words[0], [])])
        assert result.exit_code == 0, f"{block}: paradise {' '.join(words)}\n{result.output}"


def test_the_pages_work_as_typed_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    photos(Path("photos"))
    for name in ORDER:
        page = ROOT / name if name == "README.md" else ROOT / "docs" / name
        for block in blocks(page):
            if block.reason is None:
                run(block, {"__name__": "__main__"})
    assert Path("runs/digits/posterior.png").is_file()  # what README promises of the main job
