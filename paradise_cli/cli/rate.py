"""`paradise rate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.options import JsonOption, OutOption, OverwriteOption, SeedOption
from paradise_cli.cli.output import deliver, note
from paradise_cli.cli.tables import Row, bound_rows, latent_rows, nats, print_sections, rate_rows
from paradise_cli.core.ranges import MOST_DRAWS
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from torch import Tensor

    from paradise_cli.evaluation.posterior_report import Labelled, PosteriorReport
    from paradise_cli.information.gaussian import Gaussian


Means = Annotated[
    Path,
    typer.Argument(
        metavar="MU",
        help="An .npy of means [N, latent_dim]; or one .npz or .safetensors with mu (or mean) and"
        " logvar (or log_var, log_variance, sigma, scale, std), and perhaps labels.",
    ),
]
Widths = Annotated[
    Path | None,
    typer.Argument(
        metavar="LOGVAR", help="An .npy of log sigma^2, where MU is an .npy.", show_default=False
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="An .npy of N integer labels, -1 for unknown: adds D + R - H(Y)."),
]

Sigma = Annotated[
    bool | None,
    typer.Option(
        "--sigma/--logvar",
        help="What LOGVAR holds, where its name or its values leave a doubt: sigma, or log"
        " sigma^2.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(min=2, help="Of the in-batch bound, at most log of it.")]
Draws = Annotated[
    int, typer.Option(min=1, max=MOST_DRAWS, help="z for each point in the exact rate.")
]


def rate(
    posterior: Means,
    widths: Widths = None,
    labels: Labels = None,
    sigma: Sigma = None,
    seed: SeedOption = 0,
    batch_size: BatchSize = 128,
    draws: Draws = 1,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """The rate of any VAE or VIB as an interval, from the posteriors of N examples.

    \b
    paradise rate mu.npy logvar.npy
    paradise rate mu.npy sigma.npy --sigma --labels y.npy
    paradise rate z.npz --draws 4 --out rate.json
    paradise rate z.safetensors --json
    paradise encode photos/ --out z.npz && paradise rate z.npz

    Your own arrays: np.savez("z.npz", mu=mu, logvar=logvar, labels=y).

    Use examples that the encoder was not trained on. I(X;Z) is what z tells of any such example,
    I_N which of these N it came from: at most log N, so give as many as you have. Each end holds
    with three standard errors to spare. With labels, D + R - H(Y) is how many nats z keeps or
    wastes beyond the label's own.
    """
    from paradise_cli.core.inputs import require_files

    # A misspelt name is answered before torch is loaded.
    require_files(posterior, widths, labels)

    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.core.results import place, replacing
    from paradise_cli.evaluation.posterior_report import report

    gaussians, classes = _read(posterior, widths, labels, sigma)
    files = [place(str(path)) for path in (posterior, widths, labels) if path is not None]
    asked: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "draws": draws}
    origin = {"command": "rate", "files": files, "sigma": sigma} | asked
    with replacing(out, origin, overwrite=overwrite):
        # The exact rate compares each point with all of them: it is what takes the time.
        with progress_bar(draws * len(gaussians.mu), "exact rate") as advance:
            measured = report(gaussians, classes, **asked, progress=advance)
        # The same document for the file and for stdout, so that the two never disagree.
        deliver(measured.to_json(), out, as_json, lambda: print_report(str(posterior), measured))


def _read(
    posterior: Path, widths: Path | None, labels: Path | None, sigma: bool | None
) -> tuple["Gaussian", "Tensor | None"]:
    """The posteriors, and the classes of their examples where these are known and of use."""
    from paradise_cli.evaluation.posterior_files import read_labels, read_posterior
    from paradise_cli.evaluation.posterior_report import unfit

    gaussians, classes = read_posterior(posterior, widths, sigma=sigma)
    if labels is not None:
        return gaussians, read_labels(labels, len(gaussians.mu))
    # Labels that came along unasked are no reason to refuse the posteriors beside them.
    if classes is not None and (reason := unfit(classes)):
        note(f"note: the labels in {posterior} are left out: {reason}")
        return gaussians, None
    return gaussians, classes


def print_report(name: str, report: "PosteriorReport") -> None:
    """The measurements as a table on stdout, what they leave open on stderr."""
    print_sections(
        f"{name}: {counted(report.n, 'posterior')}",
        ("what", "value", "bound or unit"),
        [
            rate_rows(report.rate),
            bound_rows(report.rate),
            _labelled(report.labelled),
            latent_rows(report.latents),
        ],
    )
    # On stderr: a doubt about the numbers must be seen where the table is piped away.
    if report.rate.warning is not None:
        note(f"rate: {report.rate.warning}")
    # D is a probe's and no classifier's: whoever reads the excess must know.
    if report.labelled is not None:
        note(f"labels: {report.labelled.probe}")


def _labelled(labelled: "Labelled | None") -> list[Row]:
    if labelled is None:
        return []
    # At its cap I_N is too small, and so is the excess: the last column says so.
    rows = [
        (
            f"H(Y), {counted(labelled.classes, 'class', 'classes')}, n = {labelled.n:,}",
            labelled.entropy,
            labelled.entropy_error,
            "",
        ),
        ("D of a probe", labelled.distortion, labelled.distortion_error, ""),
        (
            "excess D + I_N - H(Y)",
            labelled.excess,
            labelled.excess_error,
            "at least: I_N is at its cap",
        ),
    ]
    return [
        (
            name,
            nats(value)[0],
            f"standard error {error:.2g}" + (f"; {more}" if more and labelled.at_cap else ""),
        )
        for name, value, error, more in rows
    ]
