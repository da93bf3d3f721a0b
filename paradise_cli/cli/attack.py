"""`paradise attack`."""

from pathlib import Path
from typing import Annotated

import typer

from paradise_cli.cli.attack_output import attack_progress, print_report
from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption
from paradise_cli.cli.output import note, print_json

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a weights file, a packaged name, or package.module:function for a classifier of"
        " your own.",
        show_default=False,
    ),
]
Import = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODULE:FUNCTION", help="The same, for a function that returns pixels -> logits."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="A data set, a folder of class folders, or an .npz with images and labels.",
        show_default="the data of the model's recipe",
    ),
]


def attack(
    model: Model = None,
    imported: Import = None,
    data: Data = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    overrides: OverridesOption = None,
    suite: Annotated[str, typer.Option(help="quick, standard, paper, transfer or targeted.")] = "standard",
    eps: Annotated[str, typer.Option(help="Radius in pixel units.")] = "8/255",
    curve: Annotated[
        str, typer.Option(help="Further radii, for accuracy against eps: 2/255,4/255.", show_default="none")
    ] = "",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    n: Annotated[
        int | None, typer.Option("--n", help="Images, drawn at random.", show_default="1000, or all")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="A model to make the images of suite transfer on; repeatable.")
    ] = None,
    ci: Annotated[
        str | None, typer.Option(help="Stop once the interval is this narrow on either side: 1%.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Stop after this long: 90s, 10m, 2h.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the ledger and the results.", show_default="attacks/MODEL-SUITE-EPS"),
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Also write a robustness card: HTML, Markdown, JSON.")
    ] = False,
    audited: Annotated[int, typer.Option(min=1, help="Images that the audit attacks in its own ways.")] = 200,
    head: Annotated[str | None, typer.Option(help="Which of several classification heads.")] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="Draw z anew for every answer.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images under way: speed and memory, never a result.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the search: auto, fp32, bf16. fp32 decides.")] = "auto",
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(help="Of all noise of the attacks.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Robust accuracy of an image classifier under attack, and whether to believe it.

    \b
    paradise attack runs/digits --eps 0.1
    paradise attack runs/cifar --suite quick --n 200 --curve 2/255,4/255
    paradise attack my_package.my_module:load --data images.npz --budget 10m
    paradise attack runs/cifar --suite transfer --source runs/other --card

    standard is AutoAttack's: APGD-CE, APGD-T, FAB-T and Square, each on the images still standing. Every
    success is confirmed afresh, and an audit of fourteen tests ends in one verdict. Each run is put down as it
    ends: the same command goes on where it was stopped.
    """
    from paradise_cli.attack_files import save_report
    from paradise_cli.attack_inputs import open_examples, open_target
    from paradise_cli.attacks import attack as run
    from paradise_cli.card import write_card
    from paradise_cli.errors import Interrupted, UsageError
    from paradise_cli.ranges import number, seconds
    from paradise_cli.training.hardware import choose_device

    name = model or imported
    if name is None or (model and imported):
        raise UsageError("name one model: paradise attack MODEL, or --model package.module:function")
    target = open_target(name, device=device, head=head, sampled=sampled)
    examples = open_examples(target, data, split=split, n=n, overrides=overrides or ())
    for line in examples.notes:
        note(f"note: {line}")
    radius = number(eps, "--eps")
    folder = out or Path("attacks") / f"{Path(name).stem.replace(':', '-')}-{suite}-{eps.replace('/', '_')}"
    sources = {each: open_target(each, device=device).function for each in source or ()}
    note(f"{target.label} on {examples.label}, {len(examples.images):,} images; results in {folder}")
    try:
        with attack_progress() as pulse:
            report = run(
                target.function, examples.images, examples.labels, eps=radius, norm=norm, suite=suite,
                seed=seed, curve=[number(each, "--curve") for each in curve.split(",") if each],
                sources=sources, ci=None if ci is None else number(ci, "--ci"),
                budget=None if budget is None else seconds(budget, "--budget"), audited=audited, out=folder,
                device=choose_device(device), precision=precision, batch_size=batch_size, pulse=pulse,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        raise Interrupted(
            "stopped; what was measured is kept, and the same command goes on from there"
        ) from error
    document = {"model": target.label, "data": examples.label, **report.to_json()}
    save_report(report, examples.images, examples.labels, folder, document)
    if card:
        for path in write_card(
            report, examples.images, examples.labels, folder,
            model=target.label, data=examples.label, classes=examples.classes,
        ):  # fmt: skip
            note(f"card: {path}")
    if as_json:
        print_json(document)
    else:
        print_report(report, f"{target.label} on {examples.label}")
