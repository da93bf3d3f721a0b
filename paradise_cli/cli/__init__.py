"""The command line: parse, call the library, print; heavy libraries load inside commands."""

from typing import Annotated

import typer

from paradise_cli import __version__
from paradise_cli.cli import (
    attack,
    certify,
    encode,
    evaluate,
    export,
    figure,
    predict,
    rate,
    rd,
    recipes,
    reconstruct,
    reproduce,
    search,
    selftest,
    sweep,
    train,
    zoo,
)
from paradise_cli.cli.entry import App, Group

app = App(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    # --debug is for reports, in the form that everybody knows.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"paradise {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Rate-regularised stochastic encoders: train, measure and use them.

    \b
    paradise train digits                      seconds, nothing to download
    paradise evaluate runs/digits              accuracy, distortion and rate
    paradise attack runs/digits --eps 0.1      robust accuracy, and an audit of it
    paradise certify runs/mine --sigma 0.25    accuracy under change, by proof
    paradise rate mu.npy logvar.npy            the rate of any VAE, as an interval
    paradise encode photos/ --out z.npy        embeddings of a folder of images
    paradise search photos/ a.jpg --index z.npz   what is most like a picture
    paradise export runs/mine --format onnx    a file that runs without us
    paradise rd bernoulli --p 0.3              exact rate-distortion functions
    paradise sweep digits --alpha 0.03:0.7:9   a frontier that checks itself
    paradise figure surface runs/digits        the paper's figures, of any model
    paradise reproduce C4                      the paper's claims, with controls
    paradise recipes ls                        what else can be trained
    paradise zoo ls                            trained models, to pull and use
    paradise selftest                          does it hold on this machine
    """


# In the order of the help: what one does first comes first.
app.command()(train.train)
app.command()(sweep.sweep)
app.command()(evaluate.evaluate)
app.command(help=attack.HELP)(attack.attack)
app.command(help=certify.HELP)(certify.certify)
app.command()(rate.rate)
app.command()(encode.encode)
app.command()(predict.predict)
app.command()(search.search)
app.command()(reconstruct.reconstruct)
app.command()(export.export)
app.command()(rd.rd)
app.command()(selftest.selftest)
app.command()(reproduce.reproduce)
app.add_typer(figure.app, name="figure")
app.add_typer(recipes.app, name="recipes")
app.add_typer(zoo.app, name="zoo")
