"""Downloads that end in data or in one clear message."""

import contextlib
import sys
from collections.abc import Iterator

from paradise_cli.core.errors import ParadiseError


@contextlib.contextmanager
def downloading(missing: ParadiseError) -> Iterator[None]:
    """Turn a failed download into `missing` and its cause."""
    try:
        # torchvision reports on stdout, which belongs to the results of a command.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (OSError, RuntimeError) as error:
        raise ParadiseError(f"{missing}. The download failed: {error}") from error
