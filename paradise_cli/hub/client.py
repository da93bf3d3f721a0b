"""A program of its own that asks the Hub, by its client: `python -m paradise_cli.hub.client`.

A request is its argument, a JSON object; answers are JSON objects on stdout, a line each. It is a
process, not a thread: a download that stalls in foreign code can be ended, and what the client
warns of and draws is not on the user's terminal.
"""

import errno
import io
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from paradise_cli.core.errors import printable

TOKEN = "PARADISE_HUB_TOKEN"
"""The variable of a token given in Python; it comes before those that the client finds."""

_OF_THE_CACHE = {
    errno.ENOSPC: "the disk is full, free space for",
    errno.EDQUOT: "your share of the disk is full, free space for",
    errno.EFBIG: "so large a file is not allowed in",
    errno.EACCES: "there is no permission to write to",
    errno.EROFS: "there is no permission to write to",
}
_NO_PUSH = {
    401: "takes no push with this token, which is unknown or expired: `hf auth login`",
    403: "is not yours to write: ask its owner for access, or `hf auth login` as somebody who may",
}


_PLAIN_NAME = re.compile(r'(W/)?"?[0-9A-Za-z][0-9A-Za-z_-]*"?')


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
    """The paths of files in the cache, fetched where they are not there.

    `files` says how many bytes each has.
    """
    from huggingface_hub import constants, hf_hub_download, set_client_factory

    set_client_factory(_careful_client)
    # Progress is told by the chunk: at 10 MiB, as it is, slow networks would seem to stall.
    constants.DOWNLOAD_CHUNK_SIZE = 2**16
    # Who waits for another pull of the same file has not stalled, and says so.
    constants.FILELOCK_LOG_EVERY_SECONDS = 1
    logging.getLogger("huggingface_hub").addHandler(_Waiting(logging.INFO))
    logging.getLogger("huggingface_hub").setLevel(logging.INFO)
    paths = {}
    for file, Lines.most in asked["files"].items():
        paths[file] = hf_hub_download(
            asked["repo"],
            file,
            revision=asked["commit"],
            cache_dir=asked["cache"],
            tqdm_class=Lines,
            library_name="paradise",
        )
    return {"paths": paths}


def _careful_client() -> Any:
    """A connection as the client makes it, whose answers are looked at first."""
    from huggingface_hub.utils._http import default_client_factory

    connection = default_client_factory()
    connection.event_hooks = connection.event_hooks | {"response": [require_plain_names]}
    return connection


def require_plain_names(answer: Any) -> None:
    """Refuse an answer by which a file would lie elsewhere than in its folder of the cache.

    The client names files by these headers, and does not look at most of them.
    """
    headers = answer.headers
    # Only answers with a commit are about a file; others have ETags of all kinds.
    if answer.request.method != "HEAD" or "X-Repo-Commit" not in headers:
        return
    used = {
        "X-Repo-Commit": headers["X-Repo-Commit"],
        "ETag": headers.get("X-Linked-Etag") or headers.get("ETag", "none"),
        "X-Xet-Hash": headers.get("X-Xet-Hash", "none"),
    }
    for header, name in used.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise Refused(f"cannot be had: the Hub's {header} is neither a digest nor a commit")


class _Waiting(logging.Handler):
    """Tells that the client waits."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line for each of the client's, whatever it says."""
        if "waiting" in record.getMessage():
            tell({"waiting": True})


def push(asked: dict[str, Any]) -> dict[str, Any]:
    """The commit at which a repository holds these files, and whether it was made for them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    token = os.environ.get(TOKEN) or get_token()
    if token is None:
        raise Refused("can be written only with a token: `hf auth login`")
    api, repo = HfApi(token=token, library_name="paradise"), asked["repo"]
    # None leaves it to the settings of an organisation, which may make all it has private.
    api.create_repo(repo, private=asked["private"] or None, exist_ok=True)
    there = api.model_info(repo)
    if asked["private"] and not there.private:
        raise Refused("is there and public: make it private on its page, or leave out --private")
    gone = [each.rfilename for each in there.siblings or []]
    gone = [name for name in gone if name.startswith(asked["ours"]) and name not in asked["files"]]
    changes: list[Any] = [CommitOperationDelete(name) for name in gone]
    with ExitStack() as stack:
        for name, path in asked["files"].items():
            changes.append(CommitOperationAdd(name, stack.enter_context(Sent(path))))
        # With the parent named, a commit of somebody else in between is refused, not buried.
        made = api.create_commit(
            repo, changes, commit_message=asked["message"], parent_commit=there.sha
        )
    return {"commit": made.oid, "url": made.commit_url, "new": made.oid != there.sha}


class Refused(Exception):
    """What the user asks for and we do not do; its text follows the name of the repository."""


class Sent(io.BufferedReader):
    """A file that tells how far it was read. The client sends those over plain HTTP alone: its fast
    transfer says nothing to us, and was seen to retry for minutes.
    """

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.total = os.path.getsize(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        block = super().read(size)
        tell({"done": self.tell(), "total": self.total})
        return block


class Lines:
    """Stands in for tqdm: each update is a line on stdout."""

    most: int
    """Bytes that the file has: what sends more would fill the disk."""

    def __init__(self, *args: Any, total: float | None = None, initial: float = 0, **more: Any):
        self.n, self.total = initial, total

    def update(self, n: float | None = 1) -> None:
        """More bytes have come."""
        self.n += n or 0
        if self.n > self.most:
            raise Refused(f"cannot be had: more comes than the {self.most:,} bytes it should have")
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


def said(error: BaseException, pushing: bool) -> str | None:
    """What the user should read of an error of the client's; None for one that is no such."""
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, Refused):
        return str(error)
    # The client wraps what goes wrong while a file is sent.
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return said(error.__cause__, pushing)
    if isinstance(error, OSError) and error.errno in _OF_THE_CACHE:
        place = error.filename or "the cache"
        return f"cannot be kept: {_OF_THE_CACHE[error.errno]} {place}; or set PARADISE_CACHE"
    answered = getattr(error, "response", None)
    if pushing and answered is not None and answered.status_code in _NO_PUSH:
        return _NO_PUSH[answered.status_code]
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
        (errors.OfflineModeIsEnabled, "is not asked for where HF_HUB_OFFLINE is set; unset it"),
        (httpx2.UnsupportedProtocol, "cannot be reached: HF_ENDPOINT is no address; unset it"),
    ]
    for kind, text in kinds:
        if isinstance(error, kind):
            return text
    cannot = "cannot be written" if pushing else "cannot be had"
    if answered is not None and answered.status_code == 401:
        return "wants a token, or does not know yours: `hf auth login`"
    if answered is not None:
        reason = _line(getattr(error, "server_message", None) or "")
        why = f" ({reason})" if reason else ""
        return f"{cannot}: the Hub answers {answered.status_code}{why}; try again later"
    network = (httpx2.HTTPError, errors.LocalEntryNotFoundError, errors.FileMetadataError)
    if isinstance(error, (*network, ConnectionError, TimeoutError)):
        return f"cannot be reached ({type(error).__name__}): check the network, then try again"
    # The client reads the body of an error before it looks at its number; and a network that wants
    # one to sign in answers with a page.
    if isinstance(error, json.JSONDecodeError):
        return f"{cannot}: the Hub answers with something else than JSON; try again later"
    if isinstance(error, OSError) or (pushing and isinstance(error, ValueError)):
        return f"{cannot}: {_line(error)}"
    return None


def _line(text: object) -> str:
    """What a server or the client says, on one line that a terminal may show."""
    line = printable(" ".join(str(text).split()))
    # What the client goes on to advise is no option of ours.
    return line.partition(" Please retry with force_download")[0]


def _end_with_parent() -> None:
    """End this process when the one that asks is gone: nobody would cut a stall then."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Answer one request."""
    import huggingface_hub.file_download  # noqa: F401  # takes seconds where the machine is busy

    asked = json.loads(sys.argv[1])
    # As an exception, on whose way out the client removes what it has half written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tell({"ready": True})
    try:
        tell({"look": look, "fetch": fetch, "push": push}[asked["what"]](asked))
    except Exception as error:
        text = said(error, asked["what"] == "push")
        if text is None:
            raise
        tell({"error": text})


if __name__ == "__main__":
    main()
