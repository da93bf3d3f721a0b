"""The options of `paradise attack`; some are those of `paradise certify` too."""

from pathlib import Path
from typing import Annotated

import typer

from paradise_cli.cli.options import written
from paradise_cli.core.ranges import MOST_AT_ONCE

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a weights file, a packaged name, or package.module:function for a"
        " classifier of your own.",
        show_default=False,
    ),
]
Classifier = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a weights file, a packaged name, or package.module:function for a"
        " classifier of your own.",
    ),
]
Import = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODULE:FUNCTION", help="A function that returns pixels -> logits."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="A data set, a folder of class folders, or an .npz with images and labels.",
        show_default="the data of the model's recipe",
    ),
]
Suite = Annotated[str, typer.Option(help="quick, fast, standard, paper, transfer or targeted.")]
Curve = Annotated[str, typer.Option(help="Further radii, as 2/255,4/255.", show_default="none")]
Count = Annotated[
    int | None,
    typer.Option(
        "--n",
        help="Images, drawn at random.",
        show_default="at most 1000; with --ci or --estimate all",
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", help="A model to make transfer images on; may be repeated."),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="The same model without its defence: the audit expects it to fall.",
        show_default=False,
    ),
]
Narrow = Annotated[
    str | None, typer.Option(help="Stop once the interval is this narrow either way: 1%.")
]
Budget = Annotated[str | None, typer.Option(help="Stop after this long: 90s, 10m, 2h.")]
FOLDER = Path("attacks")
Folder = Annotated[
    Path | None,
    typer.Option(
        callback=written(),
        help="Folder of the ledger and the results.",
        show_default="attacks/MODEL-DATA-SUITE-NORM-EPS-nN-sSEED",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Forget what was recorded in the folder, and begin again.")
]
Card = Annotated[
    bool, typer.Option("--card", help="Also write a robustness card: HTML, Markdown, JSON.")
]
Audited = Annotated[int, typer.Option(min=1, help="Images that the audit attacks in its own ways.")]
Under = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_AT_ONCE, help="Images under way: a matter of speed and memory."),
]

Estimated = Annotated[
    bool,
    typer.Option("--estimate", help="After a cheap suite attack only a sample of what stands."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Search in a torch.compile copy: faster, after a minute or so."),
]


Split = Annotated[str | None, typer.Option(help="test, validation or train.", show_default="test")]
Radius = Annotated[str, typer.Option(help="Radius in pixel units.")]
Norm = Annotated[str, typer.Option(help="linf or l2.")]
Head = Annotated[str | None, typer.Option(help="Which of several classification heads.")]
Sampled = Annotated[bool, typer.Option("--sampled", help="Draw z anew for every answer.")]
Precision = Annotated[str, typer.Option(help="Of the search: auto, fp32, bf16. fp32 decides.")]
Seed = Annotated[int, typer.Option(help="Of all noise.")]
