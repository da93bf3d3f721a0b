"""Files that a user names: asked for before anything heavy is loaded for them."""

import errno
import os
import stat
from pathlib import Path

from paradise_cli.core.errors import UsageError


def require_files(*paths: Path | None) -> None:
    """Raise UsageError for the first of these that does not exist, is no regular file, or is
    closed to this user.
    """
    for path in filter(None, paths):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"no such file: {path}") from error
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        # Whoever opens a pipe waits for its writer.
        if not stat.S_ISREG(mode):
            raise UsageError(f"cannot read {path}: it is no regular file")
        if not os.access(path, os.R_OK):
            raise UsageError(f"cannot read {path}: {os.strerror(errno.EACCES)}")
