"""Downloads weights from these addresses:

    torchvision://resnet50                       a torchvision model; also resnet50.imagenet1k_v2
    open-mmlab://detectron2/resnet50_caffe       backbones published by OpenMMLab; also openmmlab:// and mmcls://
    https://host/weights-0123abcd.pth            any server; also http://
    hf://owner/repo/folder/model.safetensors     the Hugging Face Hub; hf://owner/repo@revision/... selects a revision

`addresses.json` lists the published weights. Downloads use `torch.hub`, or huggingface_hub for the Hugging Face Hub.
Files on other storage backends are read in place.
"""

import difflib
import hashlib
import json
import logging
import os
import posixpath
import re
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import torch

from footplate import storage
from footplate.checkpoint.digest import sha256_of
from footplate.errors import CheckpointDamagedError, CheckpointError, import_optional

_logger = logging.getLogger("footplate.checkpoint")
_PUBLISHED = Path(__file__).with_name("addresses.json")
_TABLES = {
    "torchvision": "torchvision",
    "modelzoo": "torchvision",
    "open-mmlab": "openmmlab",
    "openmmlab": "openmmlab",
    "mmcls": "mmcls",
}
# The shared cache contains only files from these publishers, since other programs may execute code in cached files.
_PUBLISHERS = ("https://download.pytorch.org/", "https://download.openmmlab.com/")
_HUGGING_FACE = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")
_DATE = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_DIGEST = re.compile(rf"-(?!{_DATE}\.)([0-9a-f]{{8,64}})\.\w+$")
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_.@=+%-]")
_MAX_NAME_LENGTH = 150
_CLOSEST_NAMES = 3


def local_file(path: str) -> str:
    """Returns the local path of the weights at an address. Downloads them if they are not cached.

    If several processes on a machine need the same file, the first one downloads it and the others wait.

    Args:
        path: An address. Any other path or URL is returned unchanged.

    Raises:
        CheckpointDamagedError: The SHA-256 of the cached file does not match the digest in its name.
        CheckpointError: The address is unknown or invalid, or the file cannot be downloaded intact.
        MissingExtraError: The address begins with `hf://`, but huggingface_hub is not installed.
    """
    if path.startswith("hf://"):
        return _download_from_hub(path)
    try:
        url = find_url(path)
        if url is None:
            return path
        file = cached_path(url)
    except ValueError as error:  # raised by urlsplit
        raise CheckpointError(f"'{path}' is not a valid URL: {error}") from error
    digest = _digest_in(file)
    if not os.path.isfile(file):
        try:
            with storage.lock(file):
                if not os.path.isfile(file):  # another process may have downloaded it in the meantime
                    _logger.info("Downloading '%s' to '%s'.", url, file)
                    torch.hub.download_url_to_file(url, file, digest, progress=sys.stderr.isatty())
        except Exception as error:
            reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            if isinstance(error, HTTPError):
                error.close()
            raise CheckpointError(
                f"cannot download '{url}': {getattr(reason, 'strerror', None) or reason}",
                notes=[
                    f"Check the network and the URL, or download the file yourself and save it as '{file}'.",
                    "To use another folder, set the environment variable TORCH_HOME.",
                ],
            ) from error
    elif digest:
        with open(file, "rb") as stream:
            actual = sha256_of(stream)
        if not actual.startswith(digest):
            raise CheckpointDamagedError(
                f"the content of '{file}' does not match the hash in its name",
                notes=[
                    f"expected sha256 {digest}...",
                    f"   found sha256 {actual}",
                    "Remove the file to download it again.",
                ],
            )
    return file


def _download_from_hub(path: str) -> str:
    parts = _HUGGING_FACE.fullmatch(path)
    if parts is None:
        raise CheckpointError(f"'{path}' must have the form hf://owner/repository/file")
    hub = import_optional("huggingface_hub", extra="transformers", why=f"reading '{path}'")
    repository, revision, file = parts.groups()
    try:
        downloaded: str = hub.hf_hub_download(repository, file, revision=revision)
    except Exception as error:  # from huggingface_hub or its HTTP client
        raise CheckpointError(f"cannot download '{path}': {str(error) or type(error).__name__}") from error
    return downloaded


def find_url(path: str) -> str | None:
    """Converts the address of weights to an HTTP URL. Returns None for any other path or address.

    Raises:
        CheckpointError: No published weights have this name.

    Example:
        >>> find_url("torchvision://resnet18")
        'https://download.pytorch.org/models/resnet18-f37072fd.pth'
    """
    scheme, _, name = path.partition("://")
    if scheme in _TABLES:
        table: dict[str, str] = json.loads(_PUBLISHED.read_text("utf-8"))[_TABLES[scheme]]
        if _TABLES[scheme] == "torchvision":  # ResNet50_Weights.IMAGENET1K_V2 is resnet50.imagenet1k_v2
            name = name.lower().replace("_weights", "")
        if name not in table:
            closest = difflib.get_close_matches(name, table, n=_CLOSEST_NAMES, cutoff=0)
            listed = ", ".join(f"{scheme}://{name}" for name in closest)
            raise CheckpointError(
                f"no published weights have the address '{path}'", notes=[f"The closest addresses are {listed}."]
            )
        return table[name]
    return path if scheme in ("http", "https") else None


def cached_path(url: str) -> str:
    """Returns the cache path for a URL. Only files whose names contain a digest may be in the shared cache."""
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
    match = _DIGEST.search(name)
    return match[1] if match else None
