"""`paradise zoo verify | diff | card`: cards against models, and models against each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption, SeedOption, written
from paradise_cli.cli.output import console, note, print_entry, print_json, print_table
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.signals import goes_on
from paradise_cli.core.units import counted, quantity

if TYPE_CHECKING:
    from paradise_cli.attacks.session.settings import AttackSettings
    from paradise_cli.verification.compare import Comparison, Paired
    from paradise_cli.verification.verify import Check

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Names of the zoo, or org/repo that was pulled."),
]
DataFolders = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL=FOLDER", help="Where data of that label lie; may be repeated."),
]
Model = Annotated[str, typer.Argument(help="A run folder, a weights file, or a name of the zoo.")]

EPS = "8/255"
"""The radius of attacks on a card where none is named."""


def verify(
    names: Names = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All models that come with this package.")
    ] = False,
    data: DataFolders = None,
    overrides: OverridesOption = None,
    attack: Annotated[
        bool, typer.Option("--attack", help="Measure robust accuracies again too: hours each.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure again what the cards say, and compare.

    \b
    paradise zoo verify fashion-mnist-2d-supervised
    paradise zoo verify cifar10-rn20 --data cifar10-jpeg75=FOLDER
    paradise zoo verify --all --data cifar10-jpeg75=FOLDER

    A number holds where the new one lies in the card's interval, whose ends are rounded by up to
    0.1%. A folder is for the numbers that were measured on data of its label; --set is for all.
    """
    chosen = _chosen(names or [], everything)
    document, agree = measured_again(
        chosen, data or [], overrides or [], attack=attack, device=device, as_json=as_json
    )
    if as_json:
        print_json(document)
    if not agree:
        raise typer.Exit(1)


def measured_again(
    names: list[str],
    data: list[str],
    overrides: Sequence[str] = (),
    *,
    attack: bool = False,
    device: str = "auto",
    as_json: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """What was found of each model, as JSON values, and whether all agree with their cards.

    Without `as_json` it is also shown.
    """
    folders = _folders(data, names)
    document: list[dict[str, Any]] = []
    failed = unmeasured = 0
    for done, name in enumerate(names):
        with goes_on(f"{done} of {len(names)} were verified; nothing is kept of the others"):
            try:
                checks = _verified(name, overrides, folders, attack, device)
            except ParadiseError as error:
                # With one model it is the command that is wrong, with several it may fit some.
                if isinstance(error, UsageError) and len(names) == 1:
                    raise
                # The others are verified all the same.
                failed += 1
                note(f"{name}: cannot be verified: {error}")
                document.append({"name": name, "error": str(error)})
                continue
        failed += any(check.holds is False for check in checks)
        unmeasured += sum(check.holds is None for check in checks)
        document.append({"name": name, "checks": [check.to_json() for check in checks]})
        if not as_json:
            print_table(name, ("what", "card", "measured", "holds"), list(map(_row, checks)))
    note(f"{len(names) - failed} of {len(names)} agree with their cards")
    if unmeasured:
        attacked = counted(unmeasured, "number")
        note(
            f"{attacked} under attack not measured again: `paradise zoo verify --attack` does that"
        )
    return document, not failed


def _chosen(names: list[str], everything: bool) -> list[str]:
    from paradise_cli.hub.cards import packaged_file, zoo_names
    from paradise_cli.hub.pull import card_of

    if names and everything:
        raise UsageError(f"--all means all models: leave it out, or {' '.join(names)}")
    if not names and not everything:
        raise UsageError("name models of the zoo, or say --all")
    for name in names:
        card_of(name)  # an unknown name is told before torch is loaded
    # One that is named twice is measured once.
    return list(dict.fromkeys(names)) or [name for name in zoo_names() if packaged_file(name)]


def _folders(data: list[str], names: list[str]) -> dict[str, str]:
    """The folder of each label; raises UsageError for one that no chosen model was measured on."""
    from paradise_cli.hub.pull import card_of

    pairs = [text.partition("=") for text in data]
    if wrong := [text for text, (_, _, folder) in zip(data, pairs, strict=True) if not folder]:
        raise UsageError(f"--data {wrong[0]}: write LABEL=FOLDER, as cifar10-jpeg75=images/")
    # Looked up only if there is a label to compare: of all models one card may be damaged.
    cards = [card_of(name) for name in names] if pairs else []
    known = sorted({metric.label for card in cards for metric in card.metrics})
    for label, _, folder in pairs:
        if label not in known:
            raise UsageError(
                f"--data {label}={folder}: none of these models was measured on {label}"
                f"{did_you_mean(label, known)}; their labels: {', '.join(known)}"
            )
    return {label: folder for label, _, folder in pairs}


def _verified(
    name: str, overrides: Sequence[str], folders: dict[str, str], attack: bool, device: str
) -> "list[Check]":
    from paradise_cli.cli.attack_output import attack_progress
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.verification.verify import verify

    return verify(
        name, overrides, folders=folders, attacks=attack, device=device, bar=progress_bar,
        pulses=attack_progress,
    )  # fmt: skip


def _row(check: "Check") -> tuple[str, str, str, str]:
    metric, found = check.metric, check.found
    value, low, high = map(metric.shown, (metric.value, *metric.interval))
    measured = check.reason if found is None else metric.shown(found.value)
    holds = {True: "yes", False: f"NO: {check.reason}", None: "-"}[check.holds]
    return metric.title, f"{value} ({low} to {high})", measured, holds


def diff(
    first: Model,
    second: Model,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Images for both, where they were trained on others."),
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """What differs between two models: recipe, weights, and numbers on the same test images.

    \b
    paradise zoo diff runs/a runs/b
    paradise zoo diff cifar10-rn20 runs/mine --set data.root=FOLDER

    Accuracies are compared by the images that only one of the two has right (exact McNemar).
    Where the images lie in a folder that nobody names, recipes and weights alone are compared.
    """
    from paradise_cli.inference.find_model import find_model

    for name in (first, second):
        find_model(name)  # told before torch is loaded
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.inference.loading import load
    from paradise_cli.verification.compare import compare

    with goes_on("nothing was compared yet, and nothing is kept"):
        ours, theirs = load(first, device), load(second, device)
        found = compare(ours, theirs, data, overrides or (), bar=progress_bar)
    if as_json:
        print_json({"first": first, "second": second, **found.to_json()})
        return
    _show_diff(first, second, found)


def _show_diff(first: str, second: str, found: "Comparison") -> None:
    print_entry("first: ", first)
    print_entry("second: ", second)
    console.print(f"Recipe: {'first -> second' if found.recipe else 'the same'}")
    for key, ours, theirs in found.recipe:
        print_entry(f"  {key}: ", f"{ours} -> {theirs}")
    weights = " and ".join(f"{count:,}" for count in found.weights)
    same = "the same, bit for bit" if found.same_weights else "different"
    console.print(f"Weights: {same} ({weights})")
    if found.paired:
        columns = ("what", "first", "second", "difference (95% interval)", "p")
        print_table(f"On {found.data}", columns, list(map(_paired_row, found.paired)))
    for line in found.notes:
        note(f"note: {line}")


def _paired_row(pair: "Paired") -> tuple[str, ...]:
    values = [quantity(value, pair.unit) for value in pair.values]
    # In points: a difference of shares in percent could be read as relative.
    scale, form, unit = (1.0, "+.4g", "") if pair.unit else (100.0, "+.2f", " points")
    difference, low, high = (f"{scale * x:{form}}" for x in (pair.difference, *pair.interval))
    name = f"{pair.name}, n = {pair.n:,}"
    p = "" if pair.p is None else f"{pair.p:.2g}"
    return name, *values, f"{difference}{unit} ({low} to {high})", p


def card(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=written(".yaml"),
            help="The card, a YAML file.",
            show_default="card.yaml in the run folder",
        ),
    ] = None,
    suites: Annotated[
        str, typer.Option(help="Attacks of robust accuracies, by commas: paper,standard.")
    ] = "",
    eps: Annotated[str | None, typer.Option(help="Their radius.", show_default=EPS)] = None,
    n: Annotated[
        int | None, typer.Option(help="Images that they attack.", min=1, show_default="1000")
    ] = None,
    overrides: OverridesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure a model and write its card, for `zoo push`: the words are left to you.

    \b
    paradise zoo card runs/mine
    paradise zoo card runs/mine --suites paper,standard --eps 8/255

    What is in the card already, as summary and limits, is kept, and numbers under attacks that are
    not asked for; all others are measured anew.
    """
    if not suites and (eps is not None or n is not None):
        raise UsageError(f"{'--eps' if eps else '--n'} is for attacks: name them by --suites")
    from paradise_cli.core.ranges import number
    from paradise_cli.inference.find_model import card_of_run, find_model

    radius = number(eps or EPS, "--eps")
    weights = find_model(model)
    path = out or card_of_run(weights)
    if path is None:
        raise UsageError("name the card by --out: only a run folder has a place for it")
    before = _card_before(path)
    chosen = _attacks(suites, radius, seed)
    kept = f"{path} is as it was; attacks that had begun go on by the same command"
    with goes_on(kept if chosen else f"{path} is as it was"):
        document = _drafted(
            str(weights), model, before, chosen, n or 1000, overrides or [], device, seed
        )
    _write_card(path, document, as_json)
    _say_left_out(before, document, path)


def _attacks(suites: str, radius: float, seed: int) -> "list[AttackSettings]":
    from paradise_cli.attacks.session.settings import AttackSettings

    named = [suite for suite in suites.split(",") if suite]
    return [AttackSettings(eps=radius, suite=suite, seed=seed) for suite in named]


def _card_before(path: Path) -> dict[str, Any]:
    """What the card says that is to be written anew; all is refused before hours of attacks."""
    from paradise_cli.core.storage import require_writable
    from paradise_cli.hub.cards import Card, card_values

    before = card_values(path) if path.exists() else {}
    if foreign := sorted(before.keys() - Card.model_fields.keys()):
        raise UsageError(
            f"{path} is no card, it has {foreign[0]!r}: choose another --out, or move it away"
        )
    require_writable(path)
    return before


def _say_left_out(before: dict[str, Any], document: dict[str, Any], path: Path) -> None:
    from paradise_cli.verification.draft import is_of, under_attack

    attacked = under_attack(before)
    if attacked and not is_of(before, document["packaged"]):
        were = counted(len(attacked), "number")
        note(f"left out: {were} under attack, of the other weights that {path.name} was of")


def _drafted(
    weights: str,
    name: str,
    before: dict[str, Any],
    attacks: "list[AttackSettings]",
    n: int,
    overrides: list[str],
    device: str,
    seed: int,
) -> dict[str, Any]:
    from paradise_cli.cli.attack_output import attack_progress
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.inference.loading import load
    from paradise_cli.verification.draft import drafted

    return drafted(
        load(weights, device), name, before, overrides=overrides, attacks=attacks, n=n,
        seed=seed, device=device, bar=progress_bar, pulses=attack_progress,
    )  # fmt: skip


def _write_card(path: Path, document: dict[str, Any], as_json: bool) -> None:
    from paradise_cli.core.storage import publish_text
    from paradise_cli.core.yaml import dump
    from paradise_cli.verification.draft import WORDS

    with publish_text(path) as file:
        file.write(dump(document))
    lacking = [word for word in WORDS if not document[word]]
    if as_json:
        print_json({"path": str(path), "to_be_written": lacking, "card": document})
        return
    note(f"{path}: {counted(len(document['metrics']), 'number')}")
    if lacking:
        note(f"to be written by you: {', '.join(lacking)}")
