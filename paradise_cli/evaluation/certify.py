"""Certified accuracy of any classifier: its votes under noise, counted so that they can go on."""

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.session.inputs import (
    checked_examples,
    device_of,
    images_digest,
)
from paradise_cli.attacks.session.subject import Subject
from paradise_cli.core.checked import Count, Strict
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.given import path_given
from paradise_cli.core.journal import Journal, discard
from paradise_cli.core.machine import environment, full_fp32
from paradise_cli.core.processes import (
    from_each,
    from_main,
    is_main,
    join,
    rank,
    require_same,
    together,
    world_size,
)
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.randomness import seed_of
from paradise_cli.core.threads import one_thread_each
from paradise_cli.data.images import UnreadableImage
from paradise_cli.data.streaming import stream, worker_count
from paradise_cli.evaluation.certificates import (
    Certification,
    CertifySettings,
    Votes,
    certificate,
)
from paradise_cli.evaluation.lattice_noise import STEPS, noisy, sampling_error, to_lattice

_LEDGER, _WHAT = "ledger", "certification"
_RETIRED = ("alpha",)  # by which votes are judged, and not cast
_Class = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


def certify(
    classifier: Function,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    sigma: float,
    samples: int = CertifySettings.samples,
    n0: int = CertifySettings.n0,
    alpha: float = CertifySettings.alpha,
    seed: int = CertifySettings.seed,
    clip: bool = CertifySettings.clip,
    out: str | Path | None = None,
    fresh: bool = False,
    device: torch.device | str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Certification:
    """Certified accuracy in L2 of any function from pixels to logits, by randomised smoothing.

    Images are [N, C, H, W], float in [0, 1] or uint8, labels int [N]; for sigma, samples, n0,
    alpha, seed and clip see `CertifySettings`, for the rest `certify_with`. Raises UsageError,
    ParadiseError. Source: method.md 8.
    """
    settings = CertifySettings(
        sigma=sigma, samples=samples, n0=n0, alpha=alpha, seed=seed, clip=clip
    )
    folder = None if out is None else path_given(out, "out")
    return certify_with(
        settings, classifier, images, labels,
        out=folder, fresh=fresh, device=device, progress=progress,
    )  # fmt: skip


@together()
def certify_with(
    settings: CertifySettings,
    classifier: Function,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    ids: Sequence[str] | None = None,
    out: Path | None = None,
    fresh: bool = False,
    device: torch.device | str | None = None,
    width: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Certification:
    """The certification that the settings describe, of images [N, C, H, W] with labels [N].

    `ids` name the images, by default their numbers. With `out` the votes on each image are recorded
    there, and the same call goes on from there, with another alpha as well; `fresh` forgets them.
    `width` noisy images pass the classifier together, a matter of speed and rounding. `progress`
    gets the number of noisy images since its last call. Under `torchrun` each process takes its
    share of the images, and all find the same; the main one writes. Raises UsageError,
    ParadiseError.
    """
    if world_size() > 1:
        join()
    pixels, classes = checked_examples(images, labels)
    where = device_of(classifier, device)
    compute = _compute(where, pixels[0].numel(), width)
    # TF32 would answer other classes than fp32, and both are called float.
    with full_fp32(where):
        subject = Subject.examine(classifier, pixels, classes, "l2", compute, settings.seed)
        _require_a_function(subject)
        # Votes of another classifier, or on other noise, would be counted as these.
        header = _header(subject, settings)
        require_same({name.replace("_", " "): part for name, part in header.items()})
        if out is not None and is_main():
            if fresh:
                discard(out, _LEDGER, _WHAT, ("sigma",))
            votes = _recorded_votes(subject, settings, out, progress or _nobody)
        else:
            votes = _votes(subject, settings, [], progress or _nobody)
    names = [str(row) for row in range(len(pixels))] if ids is None else ids
    return _certification(subject, settings, names, votes)


def _compute(device: torch.device, size: int, width: int | None) -> Compute:
    """How many images of `size` values pass the classifier together: by their size alone.

    Kernels round differently at different batch shapes; at one shape an answer is always the same.
    """
    # On a CPU small enough for a core's cache, and large enough to hide the calls from Python.
    values, most = (2**18, 1024) if device.type == "cpu" else (2**23, 4096)
    return Compute(device, width or int(np.clip(values // size, 16, most)))


def _require_a_function(subject: Subject) -> None:
    """Raise ParadiseError for a classifier whose answer is no function of the image."""
    behaviour = subject.behaviour
    if behaviour.random:
        raise ParadiseError(
            "the classifier answers at random: the certificate is of a function, which gives an"
            " image the same class each time. Fix its noise, or answer by its mean"
        )
    if behaviour.batch_dependent:
        raise ParadiseError(
            "the classifier's answer to an image depends on the others in its batch: the"
            " certificate is of a function of the image. Normalise by fixed statistics (eval mode)"
        )


def _recorded_votes(
    subject: Subject,
    settings: CertifySettings,
    out: Path,
    progress: Callable[[int], None],
) -> list[Votes]:
    """The votes on each image: those on record, and the others, which are recorded."""
    with closing(Journal(out, _LEDGER, _header(subject, settings), _WHAT, _RETIRED)) as journal:
        known = _recorded(journal, subject, settings)

        def record(votes: Votes) -> None:
            # In the order of the images: the number of a line is that of its image.
            journal.add(_line(votes))

        return _votes(subject, settings, known, progress, record)


def _votes(
    subject: Subject,
    settings: CertifySettings,
    known: list[Votes],
    progress: Callable[[int], None],
    record: Callable[[Votes], None] = lambda votes: None,
) -> list[Votes]:
    """The votes on each image, of which the main process knows the first."""
    # As text: a pickle would be executed by whoever reads it.
    lines = json.loads(from_main(json.dumps([_line(votes) for votes in known])))
    known = [_Line.model_validate(line).votes() for line in lines]
    # Also where nothing is known: today's speed is measured from here.
    progress(len(known) * (settings.n0 + settings.samples))
    with closing(_counted(subject, settings, len(known), progress)) as counted:
        for votes in counted:
            record(votes)
            known.append(votes)
    return known


def _line(votes: Votes) -> dict[str, Any]:
    return {"guess": dict(votes.guess), "bound": dict(votes.bound)}


def _header(subject: Subject, settings: CertifySettings) -> dict[str, Any]:
    """What must be the same for votes on record to count."""
    return {
        **subject.identity,
        "images_sha256": images_digest(subject),
        # As text: numbers in a header may differ by rounding, and this one may not.
        "sigma": repr(settings.sigma),
        "samples": settings.samples,
        "n0": settings.n0,
        "seed": settings.seed,
        "clip": settings.clip,
        "width": subject.compute.width,
    }


class _Line(Strict):
    """The votes on an image as the journal keeps them: how many for each class, by its number."""

    guess: dict[_Class, Count]
    bound: dict[_Class, Count]

    def votes(self) -> Votes:
        guess, bound = ({int(c): n for c, n in each.items()} for each in (self.guess, self.bound))
        return Votes(guess, bound)


def _recorded(journal: Journal, subject: Subject, settings: CertifySettings) -> list[Votes]:
    """The votes on record; raises ParadiseError for such as nobody cast."""
    known: list[Votes] = []
    for number, entry in enumerate(journal.entries):
        try:
            line = _Line.model_validate(entry)
        except ValidationError as error:
            raise journal.refuse(number) from error
        votes = line.votes()
        guess, bound = votes.guess, votes.bound
        # Fewer than were asked, where the classifier answered by what is no number.
        too_many = sum(guess.values()) > settings.n0 or sum(bound.values()) > settings.samples
        unknown = max([0, *guess, *bound]) >= subject.behaviour.classes
        if too_many or unknown or number >= len(subject.images):
            raise journal.refuse(number)
        known.append(votes)
    return known


def _counted(
    subject: Subject, settings: CertifySettings, first: int, progress: Callable[[int], None]
) -> Generator[Votes, None, None]:
    """The votes on each image from the first on, in order; processes take them by turns."""
    draws, width = settings.n0 + settings.samples, subject.compute.width
    counter = _Counter(subject, settings)
    world, last = world_size(), len(subject.images)
    own = range(first + rank(), last, world)
    pieces = ((row, start) for row in own for start in range(0, draws, width))
    on_cpu = subject.compute.device.type == "cpu"
    # A core for each batch; a GPU takes one after the other, and is never waited for in between.
    workers = worker_count() if on_cpu else 1
    counts = stream(pieces, counter, workers=workers, window=2 * workers + 2)
    with one_thread_each(), closing(counts):
        for turn in range(first, last, world):
            images = min(world, last - turn)
            total = torch.zeros(2, subject.behaviour.classes, dtype=torch.int64)
            # In the last turn there may be no image for this process.
            for start in range(0, draws if rank() < images else 0, width):
                found = next(counts)
                if isinstance(found, UnreadableImage):  # `stream` keeps those: this is the model's
                    raise found
                total = total.to(found.device) + found
                progress(images * min(width, draws - start))
            for guess, bound in (each.tolist() for each in from_each(total.cpu())[:images]):
                yield Votes(_cast(guess), _cast(bound))


class _Counter:
    """Counts the votes of one batch of noisy copies of an image."""

    def __init__(self, subject: Subject, settings: CertifySettings) -> None:
        self._subject, self._settings = subject, settings
        # By content: an image has the same noise wherever it stands, and with whom.
        self._keys = [seed_of(settings.seed, "certify", id) for id in subject.ids]

    def __call__(self, piece: tuple[int, int]) -> Tensor:
        """Votes [2, classes] for the guess and the bound, of the draws of an image from one on."""
        row, start = piece
        subject, settings = self._subject, self._settings
        device = subject.compute.device
        # Always a whole batch: what is drawn beyond the last draw counts for nothing.
        draws = torch.arange(start, start + subject.compute.width, device=device)
        # Anew for each batch: as steps all images together would fill the memory.
        steps, _ = to_lattice(subject.images[row])
        images = noisy(steps.to(device), settings.sigma, self._keys[row], draws)
        if settings.clip:
            images = images.clamp_(0, 1)
        with torch.no_grad():
            logits = subject.classifier(images)
        # Disjoint draws: a guess from the same noise as its bound would be too sure of itself.
        use = torch.stack([draws < settings.n0, draws >= settings.n0])
        use &= draws < settings.n0 + settings.samples
        answers = logits.argmax(1)[:, None] == torch.arange(logits.shape[1], device=device)
        # A logit that is no number votes for no class, whatever `argmax` makes of it.
        answers &= ~logits.isnan().any(1, keepdim=True)
        return (use[:, :, None] & answers).sum(1)


def _cast(votes: Sequence[int]) -> dict[int, int]:
    return {number: count for number, count in enumerate(votes) if count}


def _certification(
    subject: Subject, settings: CertifySettings, ids: Sequence[str], votes: Sequence[Votes]
) -> Certification:
    error = sampling_error(settings.sigma, subject.images[0].numel())
    rows = zip(ids, subject.labels.tolist(), votes, subject.images, strict=True)
    certificates = tuple(
        certificate(id, label, found, settings, error=error, moved=to_lattice(image)[1])
        for id, label, found, image in rows
    )
    clean = Proportion.of(int(subject.correct.sum()), len(subject.images))
    provenance = {
        "lattice": STEPS,
        "precision": "fp32",
        "width": subject.compute.width,
        "images_sha256": images_digest(subject),
        "machine": environment(subject.compute.device),
    }
    return Certification(certificates, clean, settings, provenance)


def _nobody(count: int) -> None:
    """Where nobody listens."""
