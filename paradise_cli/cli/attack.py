"""`paradise attack`."""

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paradise_cli.cli.attack_options import (
    FOLDER,
    Audited,
    Base,
    Budget,
    Card,
    Compiled,
    Count,
    Curve,
    Data,
    Estimated,
    Folder,
    Fresh,
    Head,
    Import,
    Model,
    Narrow,
    Norm,
    Precision,
    Radius,
    Sampled,
    Seed,
    Sources,
    Split,
    Suite,
    Under,
)
from paradise_cli.cli.attack_output import attack_progress, print_report
from paradise_cli.cli.images import refuse_among_read, say_whose_data
from paradise_cli.cli.options import (
    DeviceOption,
    JsonOption,
    OverridesOption,
)
from paradise_cli.cli.output import deliver, note
from paradise_cli.core.errors import UsageError
from paradise_cli.core.processes import is_main
from paradise_cli.core.ranges import number, seconds
from paradise_cli.core.results import refuse_foreign
from paradise_cli.core.signals import goes_on
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.attacks import AttackReport
    from paradise_cli.attacks.engine.classifier import Function
    from paradise_cli.attacks.session.settings import AttackSettings
    from paradise_cli.robustness.classifiers import NamedClassifier
    from paradise_cli.robustness.examples import Examples

# Not the docstring: with 26 options the function has room for nothing else.
HELP = """Robust accuracy of an image classifier under attack, and whether to believe it.

\b
paradise attack runs/digits --eps 0.1
paradise attack runs/cifar --suite quick --n 200 --curve 2/255,4/255
paradise attack my_package.my_module:load --data images.npz --budget 10m
paradise attack runs/cifar --estimate --ci 0.5%
paradise attack runs/cifar --suite transfer --source runs/other --card

standard is AutoAttack's: APGD-CE, APGD-T, FAB-T and Square, each on the images still standing.
Every success is confirmed, and an audit ends in one verdict. A stopped command goes on.

A classifier of your own is what a function without arguments returns: a torch module in eval
mode, or any function, from pixels [B, C, H, W] in [0, 1] to logits [B, classes]; it normalises
pixels itself.
"""


def attack(
    model: Model = None,
    imported: Import = None,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    suite: Suite = "standard",
    eps: Radius = "8/255",
    curve: Curve = "",
    norm: Norm = "linf",
    n: Count = None,
    source: Sources = None,
    base: Base = None,
    ci: Narrow = None,
    budget: Budget = None,
    audited: Audited = 200,
    out: Folder = None,
    fresh: Fresh = False,
    card: Card = False,
    head: Head = None,
    sampled: Sampled = False,
    batch_size: Under = None,
    precision: Precision = "auto",
    estimate: Estimated = False,
    compiled: Compiled = False,
    device: DeviceOption = "auto",
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    # What was typed wrongly is said before torch and the model take their time.
    numbers, name = _numbers(eps, curve, ci, budget), _one(model, imported)
    from paradise_cli.attacks.session.settings import AttackSettings
    from paradise_cli.robustness.classifiers import open_classifier

    settings = AttackSettings(
        **numbers, norm=norm, suite=suite, seed=seed, audited=audited, precision=precision,
        compiled=compiled, batch_size=batch_size, estimate=estimate,
    )  # fmt: skip
    settings.suite_with(dict.fromkeys(source or ()))
    # What a user's own classifier prints is no result.
    with redirect_stdout(sys.stderr):
        target = open_classifier(name, device=device, head=head, sampled=sampled)
        # Where it is chosen how many are attacked, as many as there are may be.
        examples = _examples(target, data, split, n, bool(ci) or estimate, overrides or ())
        folder = _own(out or _folder(target, examples, settings, eps), card)
        # Only a card has pictures.
        refuse_among_read(folder if card else None, target.loaded, data, overrides)
        others = _beside(target, source or (), base, device)
        found = _attacked(settings, target, examples, folder, others, fresh)
    _show(found, target, examples, folder, card, as_json)


def _examples(
    target: "NamedClassifier",
    data: str | None,
    split: str | None,
    n: int | None,
    every: bool,
    overrides: Sequence[str],
) -> "Examples":
    from paradise_cli.robustness.examples import open_examples

    say_whose_data(target.loaded, data, overrides)
    return open_examples(target, data, split=split, n=n, every=every, overrides=overrides)


def _numbers(eps: str, curve: str, ci: str | None, budget: str | None) -> dict[str, Any]:
    """The settings that are written as fractions, shares or durations."""
    return {
        "eps": number(eps, "--eps"),
        "curve": [number(each, "--curve") for each in curve.split(",") if each],
        "ci": None if ci is None else number(ci, "--ci"),
        "budget": None if budget is None else seconds(budget, "--budget"),
    }


def _one(model: str | None, imported: str | None) -> str:
    if (model and imported) or not (model or imported):
        raise UsageError(
            "name one model: paradise attack MODEL, or --model package.module:function"
        )
    name = model or imported or ""
    if ":" not in name:
        from paradise_cli.inference.find_model import find_model

        find_model(name)
    return name


def _folder(
    target: "NamedClassifier", examples: "Examples", settings: "AttackSettings", eps: str
) -> Path:
    """Named after whatever makes it another attack, so that no result is written over."""
    data = re.sub(r"[^\w.]+", "-", examples.label.removesuffix(".npz")).strip("-")
    count = f"n{len(examples.images)}"
    parts = (target.name, data, settings.suite, settings.norm, eps, count, f"s{settings.seed}")
    return FOLDER / "-".join(parts).replace("/", "_")


def _own(folder: Path, card: bool) -> Path:
    """The folder; raises UsageError where it holds a report or a card that no attack has left."""
    from paradise_cli.robustness.files import CARD_FILES, REPORT_FILES

    files = [*REPORT_FILES, *(CARD_FILES if card else ())]
    refuse_foreign(folder, files, "ledger*.jsonl")
    return folder


def _beside(
    target: "NamedClassifier", sources: Sequence[str], base: str | None, device: str
) -> "_Classifiers":
    """The classifiers beside the target, on its device."""
    from paradise_cli.attacks.session.inputs import device_of
    from paradise_cli.robustness.classifiers import open_classifier

    if target.loaded is None and device == "auto":
        device = str(device_of(target.function, None))  # where it is
    others = {name: open_classifier(name, device=device).function for name in sources}
    below = None if base is None else open_classifier(base, device=device).function
    return _Classifiers(others, below, device)


class _Classifiers(NamedTuple):
    """To make transfer images on, and the target without its defence; where all of them are."""

    sources: dict[str, "Function"]
    base: "Function | None"
    device: str


def _attacked(
    settings: "AttackSettings",
    target: "NamedClassifier",
    examples: "Examples",
    folder: Path,
    others: _Classifiers,
    fresh: bool,
) -> tuple["AttackReport", list[str]]:
    """The report, and the notes that were shown before the attack began."""
    from paradise_cli.attacks.run import Beside, attack_with

    already_shown: list[str] = []

    # Once before the attack, where it can still be stopped, and not again after it.
    def tell(line: str) -> None:
        already_shown.append(line)
        note(f"note: {line}")

    for line in examples.notes:
        note(f"note: {line}")
    count = counted(len(examples.images), "image")
    note(f"{target.label} on {examples.label}, {count}; results in {folder}")
    kept = "every run is kept, and the same command goes on from there"
    with goes_on(kept), attack_progress() if is_main() else nullcontext() as pulse:
        report = attack_with(
            settings,
            target.function,
            examples.images,
            examples.labels,
            beside=Beside(others.sources, others.base, pulse, tell),
            out=folder,
            fresh=fresh,
            device=others.device,
        )
    return report, already_shown


def _show(
    found: tuple["AttackReport", Sequence[str]],
    target: "NamedClassifier",
    examples: "Examples",
    folder: Path,
    card: bool,
    as_json: bool,
) -> None:
    if not is_main():
        return
    report, already_shown = found
    # The notes on the images were shown before the attack; what is saved needs them too.
    whole = replace(report, notes=(*report.notes, *examples.notes))
    saved = _save(whole, target, examples, folder, card)
    title = f"{target.label} on {examples.label}"
    deliver(saved, None, as_json, lambda: print_report(report, title, already_shown))


def _save(
    report: "AttackReport",
    target: "NamedClassifier",
    examples: "Examples",
    folder: Path,
    card: bool,
) -> dict[str, Any]:
    from paradise_cli.robustness.files import save_report

    document = {"model": target.label, "data": examples.label, **report.to_json()}
    save_report(report, examples.images, examples.labels, folder, document)
    if card:
        from paradise_cli.robustness.card import write_card

        write_card(
            report,
            examples.images,
            examples.labels,
            folder,
            model=target.label,
            data=examples.label,
            title=target.title,
            classes=examples.classes,
            say=note,
        )
        note(f"card in {folder}: card.html, card.md, card.json and pictures")
    return document
