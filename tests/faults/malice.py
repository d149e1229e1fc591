"""The row of malicious checkpoints and configs: reading them causes no harmful audit events."""

import contextlib
import copy
import functools
import json
import os
import random
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from footplate import Config, Runner
from footplate.checkpoint import find_newest, load_checkpoint, load_weights, verify
from footplate.errors import CheckpointError, FootplateError
from footplate.registry import OPTIMIZERS
from footplate.tools.checkpoint_contents import read_contents
from footplate.tools.overrides import apply_overrides
from tests.faults.processes import in_child, replace_in
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import all_settings, config
from tests.footplate.checkpoint import gadgets
from tests.footplate.checkpoint.packing import pack

# Config keys from which components are built through a registry or by name.
PLACES = (
    *("model", "model.data_preprocessor", "model.init_cfg", "model_wrapper_cfg", "model_adapter", "data_preprocessor"),
    *("train_dataloader.dataset", "train_dataloader.sampler", "train_dataloader.batch_sampler"),
    *("train_dataloader.collate_fn", "train_dataloader.worker_init_fn", "val_dataloader.dataset"),
    *("train_dataloader.dataset.pipeline.0", "optim_wrapper", "optim_wrapper.optimizer", "optim_wrapper.constructor"),
    *("param_scheduler", "train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "log_processor"),
    *("default_hooks.logger", "default_hooks.checkpoint", "custom_hooks.0", "visualizer", "visualizer.vis_backends.0"),
    *("runner_type", "default_scope"),
)
_CALLABLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("os.system", {"command": "touch {mark}"}),
    ("os.mkdir", {"path": "{mark}"}),
    ("subprocess.Popen", {"args": ["touch", "{mark}"]}),
    ("builtins.exec", {"source": "open('{mark}', 'w')"}),
    ("builtins.eval", {"source": "open('{mark}', 'w')"}),
    ("pathlib.Path.touch", {"self": "{mark}"}),
    ("socket.create_connection", {"address": ["127.0.0.1", 9]}),
    ("pickle.load", {"file": "{mark}"}),
    ("torch.load", {"f": "{mark}", "weights_only": False}),
    ("importlib.import_module", {"name": "antigravity"}),
    ("footplate.__main__.main", {}),
    ("footplate.storage.commit_bytes", {"path": "{mark}", "data": "x"}),
)
_TAGS = (
    '!!python/object/apply:os.system ["touch {mark}"]',
    '!!python/object/new:os.system ["touch {mark}"]',
    "!!python/object/apply:builtins.exec [\"open('{mark}', 'w')\"]",
    "!!python/name:os.system",
    '!!python/object/new:type {{args: ["z", !!python/tuple [], {{"extend": !!python/name:exec }}]}}',
    "!include {mark}",
    '!ENV "{mark}"',
)
_VALUES = (
    "__import__('os').system('touch {mark}')",
    "exec(\"open('{mark}', 'w')\")",
    "$(touch {mark})",
    "{{{{ ''.__class__ }}}}",
    "!!python/object/apply:os.system ['touch {mark}']",
    'f\'{{open("{mark}", "w")}}\'',
)
_MEMBERS = ("../../mark", "{mark}", "a/../../mark")
FORMS = (".yaml", ".json")
_ALWAYS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "urllib.Request", "pickle.find_class")
_OF_FILES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")


# Processes that runs start themselves, to record the state of the code and to locate libraries.
_GIT = ["git", "--no-optional-locks"]
_GIT_COMMANDS = ("rev-parse", "config", "--git-dir=")  # the last one names a repository of footplate's own
_LDCONFIG = ["/sbin/ldconfig", "-p"]
_OWN_LIBRARIES = ("libpthread.so.0",)


class Watch:
    """An audit hook that records events which a file must not cause.

    Args:
        inside: The only folder in which files may be written.
        mark: The file that would be written by code that must not be executed.
    """

    def __init__(self, inside: Path, mark: Path) -> None:
        self._inside, self._mark = str(inside), str(mark)
        self._installed = [sysconfig.get_path(each) for each in ("stdlib", "purelib")] + [str(_SOURCE)]
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Handles one event."""
        harm = event.startswith(_ALWAYS) or (event.startswith("socket.") and event != "socket.gethostname")
        if event == "open":
            harm = isinstance(args[1], str) and args[1] not in ("r", "rb") and self._is_outside(args[0])
        elif event in _OF_FILES:
            path, folder = args[0], args[-1] if event in ("os.remove", "os.rmdir") else -1
            relative = isinstance(folder, int) and folder >= 0  # to an open folder
            harm = self._is_outside(f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}" if relative else path)
        elif event == "ctypes.dlopen":
            harm = args[0] not in _OWN_LIBRARIES
        elif event == "subprocess.Popen":
            is_git = args[1][:2] == _GIT and str(args[1][2]).startswith(_GIT_COMMANDS)
            harm = not is_git and args[1] != _LDCONFIG
        elif event == "exec":
            harm = self._is_foreign(args[0])
        if harm:
            self.seen.append(f"{event} {str(args)[:100]}")

    def _is_outside(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        name = os.path.abspath(os.fsdecode(path))
        is_own = "__pycache__" in name or "/footplate-git-" in name  # the repository folder, see `_GIT_COMMANDS`
        return not f"{name}/".startswith(f"{self._inside}/") and name != os.devnull and not is_own

    def _is_foreign(self, code: Any) -> bool:
        """Checks whether code is neither from an installed module nor generated by one, as for named tuples."""
        name = getattr(code, "co_filename", "")
        if name.startswith("<"):
            return self._mark in repr(getattr(code, "co_consts", ""))
        return not name.startswith(tuple(self._installed))


_SOURCE = Path(__file__).resolve().parents[2]


def begin_malice(folder: Path) -> Trial:
    """Prepares trials of one file each. Of ten, seven are checkpoints, and two are configs with a dangerous `type`."""
    return watched_trials(folder, _case, {})


def watched_trials(
    folder: Path, case: Callable[[int, Path, Path], tuple[str, Callable[[], list[str] | None]]], figures: dict[str, Any]
) -> Trial:
    """Prepares trials that call a function in a child process with an audit hook.

    Args:
        folder: The folder of the trials.
        case: Returns the name of a seed's case, and the function, which may return what went wrong.
        figures: The figures of each finding.
    """
    inside = folder / "inside"
    with contextlib.suppress(FootplateError):
        OPTIMIZERS.get("Unknown")  # imports the searched packages, which load libraries

    def trial(seed: int, fault: Fault | None) -> Finding:
        inside.mkdir(exist_ok=True)
        mark = folder / f"mark-{seed}"
        name, act = case(seed, inside, mark)

        def work() -> list[str]:
            if fault is not None:
                fault()
            watch = Watch(inside, mark)
            sys.addaudithook(watch)
            wrong = act() or []
            return [*watch.seen, *wrong]

        try:
            seen = in_child(work)
        except RuntimeError as error:
            seen = [str(error)]
        if mark.exists():
            seen.append("the mark is there")
            mark.unlink()
        return Finding(f"{name}: {seen[0]}" if seen else "", figures)

    return trial


def _case(seed: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    """Returns the case of a seed: its name, and the function that reads it."""
    number, kind = divmod(seed, 10)
    if kind < 7:
        return _checkpoint(number * 7 + kind, inside, mark)
    if kind < 9:
        return _typed(number * 2 + kind - 7, inside, mark)
    return (_tagged, _overridden, _traversing)[number % 3](number // 3, inside, mark)


def _checkpoint(number: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    name, args = gadgets.GADGETS[number % len(gadgets.GADGETS)]
    form = list(gadgets.FORMS)[(number // len(gadgets.GADGETS) + number) % len(gadgets.FORMS)]
    content = list(gadgets.files(gadgets.spelled(name, args, form, mark)))[number % 3]
    return f"{name} by {form}", functools.partial(_read, inside, content)


def _read(inside: Path, content: bytes) -> None:
    path = inside / "a.pth"
    path.write_bytes(content)
    for read in (load_checkpoint, verify, read_contents, functools.partial(load_weights, torch.nn.Linear(1, 1))):
        try:
            read(path)
        except FootplateError:
            continue
    find_newest(inside)


def _typed(number: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    draw = random.Random(number)
    place, (name, arguments) = PLACES[number % len(PLACES)], draw.choice(_CALLABLES)
    cfg = copy.deepcopy(plain_config(inside / "work"))
    section: Any = name if place in ("runner_type", "default_scope") else {"type": name, **fill(arguments, mark)}
    if place == "optim_wrapper.constructor":
        section = name
    put(cfg, place.split("."), section)
    return f"{place}={name}", functools.partial(_run, inside / f"config{draw.choice(FORMS)}", cfg)


def plain_config(work_dir: Path) -> dict[str, Any]:
    """Returns a small config that any file format can represent."""
    cfg = config(work_dir, {**all_settings()[0], "workers": 0})
    plain: dict[str, Any] = json.loads(json.dumps({**cfg, "resume": False, "log_level": "CRITICAL"}))
    plain["default_hooks"] = {key: value for key, value in plain["default_hooks"].items() if value is not None}
    return plain


def fill(value: Any, mark: Path) -> Any:
    """Returns a value with the mark replaced by its path in all strings."""
    if isinstance(value, dict):
        return {key: fill(each, mark) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, mark) for each in value]
    if isinstance(value, bytes):
        return value.replace(b"{mark}", str(mark).encode())
    return value.format(mark=mark) if isinstance(value, str) else value


def put(section: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets a nested value of a config, and creates its parents; a number creates a list."""
    key, *rest = path
    if not rest:
        section[key] = value
    elif rest[0].isdigit():
        section[key] = [value]
    else:
        inner = section.setdefault(key, {})
        if "type" not in inner and key == "visualizer":
            inner["type"] = "Visualizer"
        put(inner, rest, value)


def _run(path: Path, cfg: dict[str, Any], options: tuple[str, ...] = ()) -> None:
    """Uses a config as the command line does: loads it, builds everything, trains and tests."""
    write_config(path, cfg)
    _begin(path, options)


def write_config(path: Path, cfg: dict[str, Any]) -> None:
    """Writes a config as data, in the format of the path's suffix."""
    path.write_text(json.dumps(cfg) if path.suffix == ".json" else yaml.safe_dump(cfg))


def _begin(path: Path, options: tuple[str, ...] = ()) -> None:
    for act in ("train", "test"):
        try:
            read = Config.fromfile(path)
            apply_overrides(read, list(options))
            getattr(Runner.from_cfg(read), act)()
        except (FootplateError, TypeError, AttributeError, ValueError, RuntimeError):
            continue  # messages are checked by other tests


def _tagged(number: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    tag = _TAGS[number % len(_TAGS)].format(mark=mark)
    place = ("model", "custom_hooks", "work_dir", "odd")[number // len(_TAGS) % 4]

    def act() -> None:
        path = inside / "config.yaml"
        text = yaml.safe_dump({key: value for key, value in plain_config(inside / "work").items() if key != place})
        path.write_text(f"{text}{place}: {tag}\n")
        _begin(path)

    return tag, act


def _overridden(number: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    value = _VALUES[number % len(_VALUES)].format(mark=mark)
    key = ("model.dropout", "+odd", "model.type", "train_cfg.max_iters")[number // len(_VALUES) % 4]
    return f"--set {key}={value}", functools.partial(
        _run, inside / "c.json", plain_config(inside / "work"), (f"{key}={value}",)
    )


def _traversing(number: int, inside: Path, mark: Path) -> tuple[str, Callable[[], None]]:
    member = _MEMBERS[number % len(_MEMBERS)].format(mark=mark)
    whole = {"a/data.pkl": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", member: b"x"}
    return f"member {member}", functools.partial(_read, inside, pack(whole))


def planted() -> Iterator[tuple[str, Fault]]:
    """Yields the planted faults of this row."""
    yield "checkpoints are unpickled", _unpickle
    yield "a type calls whatever it names", _call_anything
    yield "tags of YAML are obeyed", _obey_tags
    yield "overrides are evaluated", _evaluate
    yield "members of archives are unpacked", _unpack


def _unpickle() -> None:
    from footplate.checkpoint import contents, loading, sharded, torch_file
    from footplate.checkpoint.digest import Digest

    def read(stream: Any, **settings: Any) -> Any:
        stream.seek(0)
        try:
            return torch_file.Content(torch.load(stream, weights_only=False), Digest(None, 0))
        except Exception as error:  # noqa: BLE001 - what was called has been called
            raise CheckpointError(str(error)) from error

    for module in (loading, sharded, contents):
        replace_in(module, "read_content", read)


def _call_anything() -> None:
    from footplate.registry import dotted_paths, registry

    replace_in(registry, "import_class", lambda *args, trusted: dotted_paths.import_class(*args, trusted=True))
    registry.Registry._check_base = lambda *_, **__: None  # type: ignore[method-assign]


def _obey_tags() -> None:
    from footplate.config import data_formats

    replace_in(data_formats, "_Loader", yaml.UnsafeLoader)


def _evaluate() -> None:
    from footplate.tools import overrides

    replace_in(overrides, "parse_value", eval)


def _unpack() -> None:
    from footplate.checkpoint import torch_file

    check = torch_file._check_archive

    def unpack(stream: Any, digest: Any, **settings: Any) -> bool:
        is_archive = check(stream, digest, **settings)
        for member in zipfile.ZipFile(stream).infolist() if is_archive else ():
            path = os.path.join(os.path.dirname(stream.name), member.orig_filename)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"x")
        return is_archive

    replace_in(torch_file, "_check_archive", unpack)
