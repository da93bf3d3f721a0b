"""The house keeps its shape: layers, module lengths, and what start-up may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import paradise_cli

PACKAGE = Path(paradise_cli.__file__).parent
LAYERS = [
    {"__init__", "errors", "registry", "resources", "randomness", "storage", "ranges", "units"}
    | {"threads", "proportions", "recipe_yaml"},
    {"information"},
    {"data"},
    {"models", "objective"},
    {"training"},
    {"attacks"},
    {"recipe", "recipe_check", "recipe_component", "recipe_files"},
    {"build"},
    {"loading", "inference", "sources", "encoding", "prediction", "reconstruction"}
    | {"metrics", "evaluation", "evaluation_data", "per_example", "figures", "runner"}
    | {"array_files", "posterior_files", "posterior_report", "distribution_files", "rate_distortion"}
    | {"exact_curves", "sweep", "selftest", "attack_inputs", "attack_files", "card"},
    {"cli", "__main__"},
]
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """`paradise_cli.data.base` -> `data`."""
    return parts[0].removesuffix(".py") if parts else "__init__"


def layer(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports(module: Path) -> set[str]:
    """Rooms of the package that a module imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {tuple(name.split("."))[1:] for name in names if name.split(".")[0] == "paradise_cli"}
    known = {name for names in LAYERS for name in names}
    return {room(parts) if room(parts) in known else "__init__" for parts in found}


def test_every_room_has_a_layer() -> None:
    rooms = {room(path.relative_to(PACKAGE).parts) for path in MODULES}
    assert rooms == {name for names in LAYERS for name in names}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_lower_layers(module: Path) -> None:
    if module == PACKAGE / "__init__.py":  # lends `load` from above, when it is first used
        return
    own = room(module.relative_to(PACKAGE).parts)
    for other in imports(module) - {own}:
        same_floor = layer(other) == layer(own) and layer(own) in (0, 6, 8, 9)
        assert layer(other) < layer(own) or same_floor, f"{module}: {own} imports {other}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_are_short(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 50, (
                f"{module}: {node.name}"
            )


def test_only_the_command_line_imports_typer() -> None:
    for module in MODULES:
        if "cli" not in module.relative_to(PACKAGE).parts:
            assert "typer" not in module.read_text(), module


def test_nothing_unpickles() -> None:
    for module in MODULES:
        names = {n.id for n in ast.walk(ast.parse(module.read_text())) if isinstance(n, ast.Name)}
        assert not names & {"pickle", "cloudpickle", "dill"}, module
        assert "torch.load" not in module.read_text() and "allow_pickle=True" not in module.read_text()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["encode", "--help"], ["evaluate", "--help"], ["rate", "--help"]],
)
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    program = (
        "import sys; from paradise_cli.__main__ import main\n"
        f"sys.argv = ['paradise', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'huggingface_hub', 'matplotlib', 'sklearn', 'scipy', "
        "'pyarrow', 'PIL'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n"), done.stdout
