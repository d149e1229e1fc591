"""Downloads weights from an address to the `torch.hub` cache.

    torchvision://resnet50                       a torchvision model; also resnet50.imagenet1k_v2
    open-mmlab://detectron2/resnet50_caffe       backbones published by OpenMMLab; also openmmlab:// and mmcls://
    https://host/weights-0123abcd.pth            any server; also http://
    hf://owner/repo/folder/model.safetensors     the Hugging Face Hub; hf://owner/repo@revision/... selects a revision
    s3://bucket/weights-0123abcd.pth             any storage that fsspec supports

`addresses.json` lists the published weights. A file on an fsspec storage backend is downloaded only if its name
contains a digest. Otherwise, it is read in place, because its content may change, for example during a run.
"""

import difflib
import hashlib
import json
import logging
import os
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import torch

from footplate import storage
from footplate.checkpoint.digest import sha256_of_file
from footplate.errors import CheckpointDamagedError, CheckpointError, FootplateError

_logger = logging.getLogger("footplate.checkpoint")
_PUBLISHED = Path(__file__).with_name("addresses.json")
_TABLES = {
    "torchvision": "torchvision",
    "modelzoo": "torchvision",
    "open-mmlab": "openmmlab",
    "openmmlab": "openmmlab",
    "mmcls": "mmcls",
}
# Other programs may execute code in files from the shared cache, so only files from these publishers are saved there.
_PUBLISHERS = ("https://download.pytorch.org/", "https://download.openmmlab.com/")
_WEB = ("http://", "https://")
_HUGGING_FACE = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")
_DATE = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_DIGEST = re.compile(rf"-(?!{_DATE}\.)([0-9a-f]{{8,64}})\.\w+$")
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@=+%-]")
_MAX_NAME_LENGTH = 150
_CLOSEST_NAMES = 3
_SECONDS_WITHOUT_DATA = 30
_CHUNK_BYTES = 1 << 18


def local_file(path: str) -> str:
    """Returns the local path of the weights at an address. Downloads weights that are not in the cache.

    If several processes on a machine need the same file, the first one downloads it and the others wait.

    Args:
        path: An address, or the path of a file, which is returned unchanged.

    Raises:
        CheckpointDamagedError: The SHA-256 of the file does not start with the digest in its name.
        CheckpointError: The name is unknown, or the file cannot be downloaded.
    """
    try:
        url = find_url(path)
        file = None if url is None else cached_path(url)
    except ValueError as error:  # raised by urlsplit
        raise CheckpointError(f"'{path}' is not a valid URL: {error}") from error
    if url is None or file is None:
        return path
    if not os.path.isfile(file):
        try:
            with storage.lock(file):
                if not os.path.isfile(file):  # it may have been downloaded while this process waited
                    _download(url, file)
        except FootplateError:
            raise
        except Exception as error:  # the packages of fsspec raise exceptions of their own
            reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            if isinstance(error, HTTPError):
                error.close()
            raise CheckpointError(
                f"cannot download '{url}': {getattr(reason, 'strerror', None) or reason or type(error).__name__}",
                notes=[
                    f"Check the network and the address, or save the file as '{file}'.",
                    "Set the environment variable TORCH_HOME to use another folder.",
                ],
            ) from error
    elif digest := _digest_in(file):
        found = sha256_of_file(file)
        if not found.startswith(digest):
            raise _mismatch(f"the content of '{file}'", digest, found, "Remove the file to download it again.")
    return file


def find_url(path: str) -> str | None:
    """Returns the URL of the weights at an address.

    Returns None for a path, and for the address of a file on a storage backend if its name contains no digest.

    Raises:
        CheckpointError: The name of published weights is unknown, or the address is incomplete.

    Example:
        >>> find_url("torchvision://resnet18")
        'https://download.pytorch.org/models/resnet18-f37072fd.pth'
    """
    scheme, separator, name = path.partition("://")
    if not separator or storage.is_local(path):
        return None
    if scheme in _TABLES:
        table: dict[str, str] = json.loads(_PUBLISHED.read_text("utf-8"))[_TABLES[scheme]]
        if _TABLES[scheme] == "torchvision":  # ResNet50_Weights.IMAGENET1K_V2 is resnet50.imagenet1k_v2
            name = name.lower().replace("_weights", "")
        if name not in table:
            closest = difflib.get_close_matches(name, table, n=_CLOSEST_NAMES, cutoff=0)
            listed = ", ".join(f"{scheme}://{each}" for each in closest)
            raise CheckpointError(f"there are no weights at '{path}'", notes=[f"The closest addresses are {listed}."])
        return table[name]
    if scheme == "hf":
        found = _HUGGING_FACE.fullmatch(path)
        if found is None:
            raise CheckpointError(f"'{path}' must have the form hf://owner/repository/file")
        repository, revision, file = found.groups()
        return f"{_hugging_face()}/{repository}/resolve/{quote(revision or 'main', safe='')}/{quote(file)}"
    if path.startswith(_WEB):
        return path
    return path if _digest_in(path) else None


def cached_path(url: str) -> str:
    """Returns the cache path for a URL. Uses files from other programs only if their names contain a digest."""
    parts = urlsplit(url)
    name = _safe_name(posixpath.basename(parts.path))
    shared = os.path.join(_shared_folder(), name)
    if _digest_in(name) and (url.startswith(_PUBLISHERS) or os.path.isfile(shared)):
        return shared
    folder = f"{_safe_name(parts.hostname or '')}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    return os.path.join(_shared_folder(), folder, name)


def _shared_folder() -> str:
    return os.path.join(torch.hub.get_dir(), "checkpoints")


def _safe_name(name: str) -> str:
    return _UNSAFE_IN_NAMES.sub("_", name).lstrip(".")[-_MAX_NAME_LENGTH:] or "weights"


def _digest_in(name: str) -> str | None:
    found = _DIGEST.search(name)
    return found[1] if found else None


def _hugging_face() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _download(url: str, file: str) -> None:
    """Downloads a URL to a file. The file is created only after its digest has been verified."""
    from rich.console import Console
    from rich.progress import wrap_file

    _logger.info("Downloading '%s' to '%s'.", url, file)
    digest, sha256, console = _digest_in(file), hashlib.sha256(), Console(stderr=True)
    storage.clean_stale(os.path.dirname(file))  # left over from interrupted downloads
    with storage.atomic_file(file) as sink:
        stream, size = _open(url)
        is_hidden = size is None or not console.is_terminal
        name, received = os.path.basename(file), 0
        with (
            stream,
            wrap_file(
                stream, size or 0, description=name, console=console, transient=True, disable=is_hidden
            ) as reader,
        ):
            while chunk := reader.read(_CHUNK_BYTES):
                received += len(chunk)
                sha256.update(chunk)
                sink.write(chunk)
        if size is not None and received < size:
            raise ConnectionError(f"the connection was closed after {received} of {size} bytes")
        if digest and not sha256.hexdigest().startswith(digest):
            raise _mismatch(
                f"the content of '{url}'", digest, sha256.hexdigest(), f"Save the correct file as '{file}'."
            )


def _open(url: str) -> tuple[Any, int | None]:
    """Opens a URL and returns the stream and its size, or None if the server does not send the size."""
    if not url.startswith(_WEB):
        return storage.open_file(url), storage.status(url).size
    request = Request(url, headers={"User-Agent": "footplate"})
    if url.startswith(f"{_hugging_face()}/") and (token := os.environ.get("HF_TOKEN")):
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # not sent to another server
    stream = urlopen(request, timeout=_SECONDS_WITHOUT_DATA)
    length = stream.headers.get("Content-Length")
    return stream, None if length is None else int(length)


def _mismatch(what: str, digest: str, found: str, advice: str) -> CheckpointDamagedError:
    notes = [f"expected sha256 {digest}...", f"   found sha256 {found}", advice]
    return CheckpointDamagedError(f"{what} does not match the hash in its name", notes=notes)
