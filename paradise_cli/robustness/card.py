"""The robustness card: what an attack found, on one page that can be passed on."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from paradise_cli.attacks.report import AttackReport
from paradise_cli.attacks.session.inputs import checked_images, checked_labels
from paradise_cli.core.errors import UsageError
from paradise_cli.core.storage import publish_text, write_json
from paradise_cli.figures.beside import Say, drawing
from paradise_cli.robustness.card_contents import Picture, contents, size_of_change
from paradise_cli.robustness.card_page import html, markdown
from paradise_cli.robustness.pictures import draw_accuracy, draw_attacks, draw_images, draw_transfer

ACCURACY = (
    "Accuracy against eps, the largest change allowed. It must fall to nothing: against an image"
    " that may change at will no model is right."
)
AUDITED = " The lighter line is PGD alone, on the fewer images of the audit."
ATTACKS = (
    "What each attack left, beside the accuracy without attack and under the worst of all attacks."
)
TRANSFER = (
    "Images made on other models against the strongest attack on this one. Where those made"
    " elsewhere leave less accuracy, the model's gradients mislead the attacks."
)
IMAGES = (
    "Some images that the model reads wrongly once they are attacked, with the class that it then"
    " sees, and some that it still reads rightly."
)

__all__ = ["write_card"]


def write_card(
    report: AttackReport,
    images: Tensor,
    labels: Tensor,
    folder: Path,
    *,
    model: str,
    data: str,
    title: str | None = None,
    classes: Sequence[str] | None = None,
    say: Say | None = None,
) -> list[Path]:
    """Write card.html, card.md with pictures card-*.png beside it, and card.json; gives what was
    written.

    Images [N, C, H, W] and labels [N] are those given to the attack, `model` and `data` what people
    call both, `title` a shorter name of the model for the heading, `classes` the names of labels.
    The page needs no other file. `say` is told of pictures that cannot be drawn; without it that
    is an error. Equal reports give equal bytes. Raises UsageError for other images
    than those of the report, ParadiseError where the folder cannot be written.
    """
    # The caller may give other images by mistake, and the card would show changes that are none.
    pixels, numbers = checked_images(images), checked_labels(labels, len(images))
    shape = list(report.adversarial.shape[1:])
    if int(report.rows.max()) >= len(pixels) or list(pixels.shape[1:]) != shape:
        raise UsageError(
            f"images {list(pixels.shape)} are not those of the report, which has image"
            f" {int(report.rows.max())} of shape {shape}: give those that were attacked"
        )
    shown = [_name(number, classes) for number in numbers[report.rows].tolist()]
    seen = [_name(number, classes) for number in report.predicted.tolist()]
    pictures = _draw(report, pixels[report.rows], shown, seen, folder, say)
    card = contents(report, model, data, pictures, title or model)
    write_json(folder / "card.json", report.to_json())
    # Pictures are there already: a page that is seen is whole.
    for path, text in ((folder / "card.md", markdown(card)), (folder / "card.html", html(card))):
        with publish_text(path) as file:
            file.write(text)
    return [
        folder / "card.html",
        folder / "card.md",
        folder / "card.json",
        *(each.path for each in pictures),
    ]


def _draw(
    report: AttackReport,
    images: Tensor,
    shown: Sequence[str],
    seen: Sequence[str],
    folder: Path,
    say: Say | None,
) -> list[Picture]:
    accuracy, attacks, transfer, strip = (
        folder / f"card-{name}.png" for name in ("accuracy", "attacks", "transfer", "images")
    )
    pictures = []
    with drawing(accuracy, say):
        draw_accuracy(report, accuracy)
        text = ACCURACY + AUDITED * bool(report.audit.curve)
        pictures.append(Picture(accuracy, "Accuracy against eps", text))
    # A suite that time cut short before its first attack has no stages.
    if report.stages:
        with drawing(attacks, say):
            draw_attacks(report, attacks)
            pictures.append(Picture(attacks, "Accuracy under each attack", ATTACKS))
    # These two draw nothing where there is nothing to see, and say so.
    with drawing(transfer, say):
        if draw_transfer(report, transfer):
            pictures.append(Picture(transfer, "Transfer against white-box", TRANSFER))
    settings = report.settings
    with drawing(strip, say):
        if draw_images(
            report, images, shown, seen, strip, lambda size: size_of_change(size, settings)
        ):
            pictures.append(Picture(strip, "Clean and attacked images", IMAGES))
    return pictures


def _name(number: int, classes: Sequence[str] | None) -> str:
    """What people call a class; of `tench, Tinca tinca` the first name."""
    # A classifier may have logits that the data has no class for.
    if not classes or number >= len(classes):
        return f"class {number}"
    return classes[number].partition(",")[0].strip() or classes[number]
