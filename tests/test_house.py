"""The house keeps its shape: one strict order of rooms, module lengths, and what start-up may load.

`python tests/test_house.py` writes `docs/house.md` anew from what stands here.
"""

import ast
import io
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path

import pytest

import paradise_cli

PACKAGE = Path(paradise_cli.__file__).parent
PAGE = PACKAGE.parent / "docs" / "house.md"

# From the ground up: a module imports only from its own room and from those before it.
ROOMS = [
    "core",
    "errors",
    "information",
    "data",
    "perturbations",
    "figures",
    "models",
    "objective",
    "training",
    "recipe",
    "build",
    "attacks/protocol",
    "attacks/methods",
    "attacks/engine",
    "attacks/session",
    "attacks/audit",
    "attacks",
    "hub",
    "inference",
    "export",
    "evaluation",
    "theory",
    "runs",
    "robustness",
    "verification",
    "sweep",
    "reproduction",
    "reproduction/quantities",
    "reproduction/ledger",
    "library",
    "cli",
    "__main__",
]
FRONT_DOOR = PACKAGE / "__init__.py"  # lends `load` and others from above, when they are first used
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = "torch torchvision numpy huggingface_hub matplotlib sklearn scipy pyarrow PIL onnx".split()


def room_of(parts: tuple[str, ...]) -> str:
    """`("data", "base.py")` -> `data`; a folder of `attacks` is a room of its own."""
    inner = "/".join(parts[:2])
    return inner if inner in ROOMS else parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """Rooms that a module imports from, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        ours = [name.split(".")[1:] for name in names if name.split(".")[0] == "paradise_cli"]
        found |= {room_of(tuple(parts)) for parts in ours if parts and parts != ["__version__"]}
    return found


@cache
def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports from, itself left out."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in MODULES:
        if module != FRONT_DOOR:
            room = room_of(module.relative_to(PACKAGE).parts)
            found[room] |= imported(module) - {room}
    return found


def page() -> str:
    """`docs/house.md`: the rooms in their order, as a table and as a picture in text."""
    lines = [
        "# The house",
        "",
        "A module imports only from its own room and from rooms above it in this table;"
        " `tests/test_house.py` sees to it, and `python tests/test_house.py` writes this page.",
        "",
        f"{len(ROOMS)} rooms, {sum(map(len, arrows().values()))} arrows between them, none upward.",
        "",
        "| room | what lives there | imports from |",
        "|---|---|---|",
    ]
    for room in ROOMS:
        others = ", ".join(f"`{other}`" for other in ROOMS if other in arrows()[room])
        lines.append(f"| `{room}` | {purpose(room)} | {others or '-'} |")
    lines += ["", "A dot where the room of the row imports from the room of the column:", "", "```"]
    width = max(map(len, ROOMS))
    lines += [" " * (width + 4) + " ".join(f"{number:2}" for number in range(1, len(ROOMS)))]
    for number, room in enumerate(ROOMS, 1):
        marks = " ".join(" •" if other in arrows()[room] else " ·" for other in ROOMS[: number - 1])
        lines.append(f"{number:2} {room:{width}} {marks}".rstrip())
    return "\n".join([*lines, "```", ""])


def purpose(room: str) -> str:
    """The first sentence that a room says of itself."""
    module = PACKAGE / room
    path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def comments_and_code(module: Path) -> tuple[int, int]:
    """Comments of a module that are no order to a tool, and lines of code without docstrings."""
    text = module.read_text()
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    comments, code = 0, set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments += not token.string.startswith(("# type:", "# noqa", "# fmt:"))
        elif token.type not in layout:
            code |= set(range(token.start[0], token.end[0] + 1))
    return comments, len(code - docstrings)


def test_every_room_has_its_place() -> None:
    rooms = {
        room_of(module.relative_to(PACKAGE).parts) for module in MODULES if module != FRONT_DOOR
    }
    assert rooms == set(ROOMS)
    assert sum(module.parent == PACKAGE for module in MODULES) <= 5


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_below(room: str) -> None:
    # One strict order has no circle.
    assert arrows()[room] <= set(ROOMS[: ROOMS.index(room)])


def test_the_page_about_the_house_is_true() -> None:
    if not PAGE.exists():
        pytest.skip("docs/ stands in the checkout only")
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_functions_and_lines_are_short(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 350
    assert max(map(len, text.splitlines()), default=0) <= 100
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 50, f"{module}: {node.name}"


def test_comments_say_why_where_a_reader_would_ask() -> None:
    counts = [comments_and_code(module) for module in MODULES]
    comments = sum(count for count, _ in counts)
    assert comments >= 0.06 * sum(lines for _, lines in counts)


def test_only_the_command_line_imports_typer() -> None:
    for module in MODULES:
        if "cli" not in module.relative_to(PACKAGE).parts:
            assert "typer" not in module.read_text(), module


def test_only_one_module_knows_torchrun() -> None:
    variables = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    for module in MODULES:
        if module != PACKAGE / "core" / "processes.py":
            nodes = ast.walk(ast.parse(module.read_text()))
            assert not variables & {
                node.value for node in nodes if isinstance(node, ast.Constant)
            }, module


def test_nothing_unpickles() -> None:
    for module in MODULES:
        names = {n.id for n in ast.walk(ast.parse(module.read_text())) if isinstance(n, ast.Name)}
        assert not names & {"pickle", "cloudpickle", "dill"}, module
        text = module.read_text()
        assert "torch.load" not in text and "allow_pickle=True" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["encode", "--help"],
        ["evaluate", "--help"],
        ["rate", "--help"],
        ["zoo", "ls"],
        ["zoo", "info", "digits-2d"],
    ],
)
def test_what_answers_at_once_loads_no_heavy_library(arguments: list[str]) -> None:
    program = (
        "import sys; from paradise_cli.__main__ import main\n"
        f"sys.argv = ['paradise', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("heavy: []\n"), done.stdout


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
