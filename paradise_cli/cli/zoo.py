"""`paradise zoo ls | info | pull | push | rm`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paradise_cli.cli import zoo_checks
from paradise_cli.cli.entry import App
from paradise_cli.cli.options import JsonOption
from paradise_cli.cli.output import note, print_entry, print_json
from paradise_cli.core.errors import UsageError
from paradise_cli.core.units import SUSTAINED, counted

if TYPE_CHECKING:
    from paradise_cli.hub.ask import Progress
    from paradise_cli.hub.cards import Card, Metric
    from paradise_cli.hub.pull import Plan, Pulled
    from paradise_cli.hub.push import Push

app = App(no_args_is_help=True, help="Trained models: list, look at, pull and push them.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of the zoo, or org/repo[@revision].")
]


def ls(as_json: JsonOption = False) -> None:
    """The models of the zoo, one a line.

    \b
    paradise zoo ls
    paradise zoo ls | grep fashion
    """
    from paradise_cli.hub.cards import card, zoo_names

    cards = {name: card(name) for name in zoo_names()}
    if as_json:
        print_json([{"name": name, **each.model_dump()} for name, each in cards.items()])
        return
    # Plain lines, for grep and cut.
    width = max(map(len, cards), default=0)
    for name, each in cards.items():
        mark = "" if each.status == "trained" else f" ({each.status})"
        print_entry(f"{name:<{width}}  ", each.summary + mark)


def info(name: Name, as_json: JsonOption = False) -> None:
    """What a model of the zoo is, what was measured of it, and how to measure it again.

    \b
    paradise zoo info cifar10-rn20
    paradise zoo info org/repo                   once it was pulled
    """
    from paradise_cli.hub.pull import card_of

    found = card_of(name)
    if as_json:
        print_json({"name": name, **found.model_dump()})
        return
    _show_card(name, found)


def pull(
    name: Name,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be fetched.")
    ] = False,
    allow_imports: Annotated[
        bool,
        typer.Option("--allow-imports", help="Let the model's recipe import Python modules."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then measure again what its card says.")
    ] = False,
    data: zoo_checks.DataFolders = None,
    as_json: JsonOption = False,
) -> None:
    """Put a model on this machine, verified.

    \b
    paradise zoo pull cifar10-rn20
    paradise zoo pull org/repo@main
    paradise zoo pull cifar10-rn20 --verify --data cifar10-jpeg75=FOLDER
    paradise encode photos/ --model org/repo --out z.npy

    A packaged file is taken first, then the cache, then the Hub at one commit: what a branch means
    is asked for once. Every file is compared with its sha256.
    """
    from paradise_cli.hub import pull as hub

    if data and not verify:
        raise UsageError("--data says where to measure again: add --verify")
    if verify and dry_run:
        raise UsageError("--verify measures what was pulled, and --dry-run pulls nothing")
    if dry_run:
        _show_plan(hub.plan(name, offline=offline), as_json)
        return
    with _progress(name) as progress:
        found = hub.pull(name, offline=offline, allow_imports=allow_imports, progress=progress)
    if not as_json:
        _say_pulled(name, found)
    document, agree = found.to_json(), True
    if verify:
        again, agree = zoo_checks.measured_again([name], data or [], as_json=as_json)
        document |= again[0]
    elif not as_json:
        typer.echo(found.path)
    if as_json:
        print_json(document)
    if not agree:
        raise typer.Exit(1)


def _show_plan(plan: "Plan", as_json: bool) -> None:
    if as_json:
        print_json(plan.to_json())
    else:
        note(str(plan))


def _say_pulled(name: str, found: "Pulled") -> None:
    how = {"packaged": "comes with this package", "cache": "is in the cache already, from"}
    place = "" if found.repo is None else f" {found.repo} at {found.revision}"
    source = how.get(found.origin, "pulled from") + place
    note(f"{name}: {source}, verified ({found.bytes / 1e6:.1f} MB)")
    # Of a branch: what it means may have changed since. Cards of the zoo name a commit.
    repo, revision = found.repo, found.revision
    if found.origin == "cache" and repo and revision and repo in name and revision not in name:
        note(f"the Hub was not asked for a newer one: `paradise zoo rm {name}`, then pull")


def push(
    model: Annotated[
        str, typer.Argument(help="A finished run folder, a weights file, or a name of the zoo.")
    ],
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Where to on the Hub.")],
    card: Annotated[
        Path | None, typer.Option(help="The card, a YAML file; by default MODEL/card.yaml.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent; nobody is asked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a model on the Hub: weights, page and results, in one commit.

    \b
    paradise zoo push runs/mine org/repo --dry-run
    paradise zoo push runs/mine org/repo

    The page and all results are made of the card. Log in once with `hf auth login`.
    """
    from paradise_cli.inference.pushing import prepare_push

    ready = prepare_push(model, repo, card)
    if ready.content is not None:
        note("the weights name folders of this machine, which are left out of what is sent")
    if dry_run:
        _show_push(ready, as_json)
        return
    with _progress(repo) as progress:
        pushed = ready.send(private=private, progress=progress)
    if as_json:
        print_json(ready.to_json() | pushed.to_json())
        return
    what = "pushed" if pushed.new else "holds all this already, no new commit"
    note(f"{repo}: {what}; {pushed.url}")
    typer.echo(pushed.commit)
    note(f"next: paradise zoo pull {repo}@{pushed.commit}")


def rm(
    name: Annotated[
        str, typer.Argument(metavar="ORG/REPO[@REVISION]", help="What was pulled of the Hub.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Remove what was pulled of a repository: all its commits, or the one that is named.

    \b
    paradise zoo rm org/repo
    """
    from paradise_cli.hub.removal import remove

    removed = remove(name)
    if as_json:
        print_json({"name": name, "bytes": removed})
        return
    note(f"{name}: removed {removed / 1e6:.1f} MB")


# In the order of the help: what one does first comes first.
for command in (
    ls, info, pull, zoo_checks.verify, zoo_checks.diff, push, zoo_checks.card, rm,
):  # fmt: skip
    app.command()(command)


def _show_push(ready: "Push", as_json: bool) -> None:
    """What would be sent: the sizes, and what people would read."""
    if as_json:
        print_json(ready.to_json() | {"texts": ready.texts})
        return
    for path, size in ready.sizes.items():
        typer.echo(f"{size:>12,}  {path}")
    for path, text in ready.texts.items():
        typer.echo(f"\n--- {path}\n{text}", nl=False)
    note(
        f"{ready.repo}: {counted(sum(ready.sizes.values()), 'byte')} would be sent; nobody was"
        " asked"
    )


@contextmanager
def _progress(name: str) -> "Iterator[Progress]":
    """A line or bar with rate and time to go, once something moves; gone when the body ends."""
    from paradise_cli.cli.progress import ProgressLine

    line: ProgressLine | None = None
    started = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal line
        line = line or ProgressLine(f"{name}, KiB", None)
        rate = done / max(time.monotonic() - started, 0.001) / 1e6
        whole = None if total is None else total // 1024
        line.update(done // 1024, f"{rate:.1f} MB/s", whole)

    try:
        yield show
    finally:
        # Also after a failure: the message must not stand beside a bar that goes on turning.
        if line is not None:
            line.close()


def _show_card(name: str, card: "Card") -> None:
    """A card as plain text."""
    rows = _rows(card)
    width = max(len(what) for what, _ in rows)
    print_entry(f"{name}: ", card.summary)
    for what, text in rows:
        print_entry(f"  {what:<{width}}  ", text, " \\" if what == _BY else "")


_BY = "by"
"""What stands before a command, which may be longer than a terminal is wide."""


def _rows(card: "Card") -> list[tuple[str, str]]:
    from paradise_cli.recipe.files import shipped_recipes

    shipped = card.recipe in shipped_recipes()
    rows = [
        ("status", card.status),
        ("recipe", card.recipe + (f" (paradise recipes show {card.recipe})" if shipped else "")),
        ("trained on", card.trained_on),
        ("licence", card.licence),
        ("intended use", card.intended_use),
        ("limits", card.limits),
    ]
    if card.training is not None:
        took = card.training
        rows.append(("training", f"{counted(took.epochs, 'epoch')}, passes per image of"
                                 f" each: {took.forward:g}"
                                 f" forward, {took.back:g} back"))  # fmt: skip
    if card.gpu_hours is not None:
        rate = f"{SUSTAINED / 1e12:g} TFLOP/s"
        reckoned = f"its operations at {rate}, as one large GPU keeps up; not measured"
        rows.append(("would take", f"about {card.gpu_hours:g} GPU-hours: {reckoned}"))
        rows.append(("how", f"paradise train {card.recipe}, paradise zoo card, paradise zoo push"))
    if card.packaged is not None:
        rows.append(
            ("packaged", f"{counted(card.packaged.bytes, 'byte')}, sha256 {card.packaged.sha256}")
        )
    if card.hub is not None:
        rows.append(("Hub", f"{card.hub.repo} at {card.hub.revision}"))
    for metric in card.metrics:
        rows += [("measured", _measured(metric)), (_BY, metric.command)]
    return rows


def _measured(metric: "Metric") -> str:
    """One metric in a line, with all that makes it a number."""
    value, low, high = map(metric.shown, (metric.value, *metric.interval))
    masking = "" if metric.attack is None else f", masking {metric.attack.verdict}"
    return (
        f"{metric.title}{masking} {value} ({low} to {high}); {metric.data}, n ="
        f" {metric.n:,}, seed {metric.seed}, commit {metric.commit[:7]}"
    )
