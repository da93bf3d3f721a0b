"""A program of its own that asks the Hub, by its client: `python -m paradise_cli.hub.client`.

A request is its argument, a JSON object; answers are JSON objects on stdout, a line each. It is a
process, not a thread: a download that stalls in foreign code can be ended, and what the client
warns of and draws is not on the user's terminal.
"""

import errno
import json
import sys
from collections.abc import Callable
from typing import Any

_OF_THE_CACHE = {
    errno.ENOSPC: "free space for",
    errno.EDQUOT: "free space for",
    errno.EACCES: "there is no permission to write to",
    errno.EROFS: "there is no permission to write to",
}


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """The commit that a revision means now, and the size and digest of each file there."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(asked["repo"], revision=asked["revision"], files_metadata=True)
    files = {}
    for each in info.siblings or []:
        # Large files are known by a sha256, small ones by what git calls them.
        sha256 = each.lfs.sha256 if each.lfs else None
        files[each.rfilename] = {"bytes": each.size, "sha256": sha256, "git": each.blob_id}
    return {"commit": info.sha, "files": files}


def fetch(asked: dict[str, Any]) -> dict[str, Any]:
    """The path of a file in the cache, fetched where it is not there."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        asked["repo"],
        asked["file"],
        revision=asked["commit"],
        cache_dir=asked["cache"],
        force_download=asked["anew"],
        tqdm_class=Lines,
        library_name="paradise",
    )
    return {"path": path}


class Lines:
    """Stands in for tqdm: each update is a line on stdout."""

    def __init__(self, *args: Any, total: float | None = None, initial: float = 0, **more: Any):
        self.n, self.total = initial, total

    def update(self, n: float | None = 1) -> None:
        """More bytes have come."""
        self.n += n or 0
        tell({"done": self.n, "total": self.total})

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    # What else the client may call; there is nothing to draw.
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **more: None


def tell(answer: dict[str, Any]) -> None:
    """One answer to whoever started this."""
    print(json.dumps(answer), flush=True)


def said(error: Exception) -> str | None:
    """What the user should read of an error of the client's; None for one that is no such."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, OSError) and error.errno in _OF_THE_CACHE:
        place = error.filename or "the cache"
        return f"cannot be kept: {_OF_THE_CACHE[error.errno]} {place}; or set PARADISE_CACHE"
    # From the narrow to the wide: many of these are kinds of those below.
    kinds: list[tuple[type[Exception], str]] = [
        (errors.GatedRepoError, "is gated: ask for access on its page, then `hf auth login`"),
        (errors.RevisionNotFoundError, "has no such revision; look at its page"),
        (
            errors.RepositoryNotFoundError,
            "does not exist, or is private: check the name, or `hf auth login`",
        ),
        (errors.RemoteEntryNotFoundError, "lacks the file; it is no model of PARADISE's"),
        (errors.HFValidationError, "is no name of a repository; write org/repo[@revision]"),
    ]
    for kind, text in kinds:
        if isinstance(error, kind):
            return text
    answered = getattr(error, "response", None)
    if answered is not None:
        return f"cannot be had: the Hub answers {answered.status_code}; try again later"
    network = (httpx2.HTTPError, errors.LocalEntryNotFoundError, errors.FileMetadataError)
    if isinstance(error, (*network, ConnectionError, TimeoutError)):
        return f"cannot be reached ({type(error).__name__}): check the network, then try again"
    if isinstance(error, OSError):
        return f"cannot be had: {str(error).splitlines()[0]}"
    return None


def main() -> None:
    """Answer one request."""
    import huggingface_hub.file_download  # noqa: F401  # takes seconds where the machine is busy

    asked = json.loads(sys.argv[1])
    tell({"ready": True})
    try:
        tell({"look": look, "fetch": fetch}[asked["what"]](asked))
    except Exception as error:
        text = said(error)
        if text is None:
            raise
        tell({"error": text})


if __name__ == "__main__":
    main()
