"""`paradise certify`."""

import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.attack_options import Classifier, Data, Fresh, Head, Seed, Split
from paradise_cli.cli.images import refuse_among_read, say_whose_data
from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption, written
from paradise_cli.cli.output import deliver, note
from paradise_cli.cli.tables import Row, print_sections
from paradise_cli.core.processes import is_main
from paradise_cli.core.ranges import MOST_COPIES, number
from paradise_cli.core.results import refuse_foreign
from paradise_cli.core.signals import goes_on
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.core.proportions import Proportion
    from paradise_cli.evaluation.certificates import Certification, CertifySettings
    from paradise_cli.robustness.classifiers import NamedClassifier
    from paradise_cli.robustness.examples import Examples

IMAGES = 500
"""As published certificates have it; each costs 10,100 passes through the network."""
_ROWS = 5  # of the curve in the table; the document has all
_UNTRAINED = 0.2  # of accuracy lost to noise, from which on training is the likely reason

Sigma = Annotated[
    str, typer.Option(help="Standard deviation of the noise, where pixels lie in [0, 1].")
]
Count = Annotated[
    int | None,
    typer.Option("--n", help="Images, drawn at random.", show_default=f"at most {IMAGES}"),
]
Samples = Annotated[
    int, typer.Option(max=MOST_COPIES, help="Noisy copies of each image, for the bound.")
]
Guess = Annotated[
    int, typer.Option("--n0", max=MOST_COPIES, help="Others, for the guess of the class.")
]
Alpha = Annotated[float, typer.Option(help="The most probable a wrong certificate may be.")]
Clip = Annotated[
    bool,
    typer.Option("--clip", help="Clip noisy images to [0, 1]: for a model trained on such."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        callback=written(),
        help="Folder of the ledger and the results.",
        show_default="certified/MODEL-DATA-sigmaSIGMA-nNxSAMPLES-sSEED",
    ),
]

# Not the docstring: with its options the function has room for nothing else.
HELP = """Accuracy that no change of some Euclidean length can take away, by proof.

\b
paradise certify runs/mine --sigma 0.25
paradise certify runs/mine --sigma 0.5 --n 100 --samples 1000   a first look
paradise certify my_package.my_module:load --sigma 0.25 --data images.npz

Randomised smoothing: the class that the model gives most often under Gaussian noise, and how
far an image must move to change it. What is certified is that vote, not the model without
noise, and it is only as good as the model is under noise: train it with noise of the same
sigma. A stopped command goes on.

sigma is of pixels in [0, 1], whatever the model makes of them. In published code it may be of
pixels in [-1, 1], which is twice as much.
"""


def certify(
    model: Classifier,
    sigma: Sigma,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    n: Count = None,
    samples: Samples = 10_000,
    n0: Guess = 100,
    alpha: Alpha = 0.001,
    clip: Clip = False,
    out: Folder = None,
    fresh: Fresh = False,
    head: Head = None,
    device: DeviceOption = "auto",
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    from paradise_cli.evaluation.certificates import CertifySettings

    # What was typed wrongly is said before torch, the model and the data take their time.
    settings = CertifySettings(
        sigma=number(sigma, "--sigma"), samples=samples, n0=n0, alpha=alpha, seed=seed, clip=clip
    )
    if ":" not in model:
        from paradise_cli.inference.find_model import find_model

        find_model(model)
    from paradise_cli.evaluation.certificate_files import NAME
    from paradise_cli.robustness.classifiers import open_classifier
    from paradise_cli.robustness.examples import open_examples

    # What a user's own classifier prints is no result.
    with redirect_stdout(sys.stderr):
        target = open_classifier(model, device=device, head=head)
        chosen = overrides or ()
        say_whose_data(target.loaded, data, chosen)
        examples = open_examples(target, data, split=split, n=n, most=IMAGES, overrides=chosen)
        folder = out or _folder(target, examples, settings, sigma)
        refuse_among_read(folder, target.loaded, data, chosen)
        refuse_foreign(folder, [f"{NAME}.*"], "ledger.jsonl")
        found = _certified(settings, target, examples, folder, fresh, device)
    if not is_main():
        return
    document = _save(found, target, examples, folder)
    title = f"{target.label} on {examples.label}"
    deliver(document, None, as_json, lambda: print_certification(found, title))


def _folder(
    target: "NamedClassifier", examples: "Examples", settings: "CertifySettings", sigma: str
) -> Path:
    """Named after whatever people change between two certifications of one model."""
    data = re.sub(r"[^\w.]+", "-", examples.label.removesuffix(".npz")).strip("-")
    count = f"n{len(examples.images)}x{settings.samples}"
    parts = [target.name, data, f"sigma{sigma}", count, f"s{settings.seed}"]
    # Only another than the usual one: else what stands under the older name would be lost.
    parts += [f"n0={settings.n0}"] if settings.n0 != type(settings).n0 else []
    parts += ["clip"] if settings.clip else []
    return Path("certified") / "-".join(parts).replace("/", "_")


def _certified(
    settings: "CertifySettings",
    target: "NamedClassifier",
    examples: "Examples",
    folder: Path,
    fresh: bool,
    device: str,
) -> "Certification":
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.evaluation.certify import certify_with
    from paradise_cli.robustness.classifiers import device_for

    for line in examples.notes:
        note(f"note: {line}")
    count = len(examples.images)
    note(f"{target.label} on {examples.label}, {counted(count, 'image')}; results in {folder}")
    kept = "the votes on every finished image are kept, and the same command goes on from there"
    total = count * (settings.n0 + settings.samples)
    with goes_on(kept), progress_bar(total, "noisy images") as advance:
        return certify_with(
            settings,
            target.function,
            examples.images,
            examples.labels,
            ids=examples.ids,
            out=folder,
            fresh=fresh,
            device=device_for(target, device),
            progress=advance,
        )


def _save(
    found: "Certification", target: "NamedClassifier", examples: "Examples", folder: Path
) -> dict[str, Any]:
    from paradise_cli.evaluation.certificate_files import save_certification

    document = {
        "model": target.label,
        "data": examples.label,
        **found.to_json(),
        "notes": list(examples.notes),
    }
    save_certification(found, folder, document, note)
    return document


def print_certification(found: "Certification", title: str) -> None:
    """The accuracies as a table on stdout, and what should be known of them on stderr."""
    settings, clean = found.settings, found.clean_accuracy
    smoothed, *further = found.curve(_ROWS)
    print_sections(
        f"{title}: {counted(len(found.images), 'image')}, L2, sigma {settings.sigma:g},"
        f" {counted(settings.samples, 'sample')}, alpha {settings.alpha:g}",
        ("accuracy", "share", "95% interval"),
        [
            [_row("classifier, without noise", clean)],
            [
                _row("smoothed classifier", smoothed[1]),
                _row("abstains, an error", found.abstained),
            ],
            [_row(f"certified at radius {r:g}", share) for r, share in further],
        ],
    )
    note(
        f"so many samples prove radii up to {found.largest_radius:.4g}; each certificate is wrong"
        f" with a probability of at most {settings.alpha:g}"
    )
    if clean.value - smoothed[1].value > _UNTRAINED:
        note(
            "note: most of the accuracy is lost to the noise alone; a model has to be trained with"
            f" noise of sigma {settings.sigma:g} to be certified well"
        )


def _row(what: str, share: "Proportion") -> Row:
    return (what, f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}")
