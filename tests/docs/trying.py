"""Runs the code blocks of a page in order, in a separate folder."""

import importlib.util
import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.cli.main import build_parser, main
from footplate.engine.plan.plan import RunPlan
from footplate.errors import MissingExtraError
from tests.docs.pages import ROOT, Block
from tests.footplate_vision.inference.models import recipe, save_pictures, save_untrained
from tests.support import TINY, settings

_EXTRA = re.compile(r"\[([\w,]+)\]")
# Commands that take no time; where the files that they name are there, they are run.
_SHORT = frozenset({"diff", "env", "explain", "recipes"})
# Configs of code that is not installed here: read, and whatever the page's commands make of them is compared.
_FOREIGN = frozenset({"config.md", "migration.md"})


class Page:
    """The state that the blocks of a page share: variables, and files in the current folder."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.names: dict[str, Any] = {"__name__": "guide"}
        self._capsys = capsys
        self._runs = 0

    def try_block(self, block: Block) -> None:
        """Tests a block according to its kind."""
        getattr(self, f"_try_{block.kind}")(block)

    def _try_text(self, block: Block) -> None:
        assert block.text.strip()

    def _try_other(self, block: Block) -> None:
        compile(block.text, block.title, "exec")

    def _try_module(self, block: Block) -> None:
        compile(block.text, block.title, "exec")
        self._write(block)

    def _try_config(self, block: Block) -> None:
        self._write(block)
        cfg = Config.fromfile(block.title)
        if self.path.name in _FOREIGN or "/" in block.title:
            return
        if "model" in cfg:
            cfg.work_dir = "out"
            RunPlan.from_config(cfg).check()
        else:
            self._train(cfg)

    def _try_fragment(self, block: Block) -> None:
        exec(block.text, self.names)  # code below may use its names
        cfg = Config.fromstring(block.text, ".py")
        if self.path.name in _FOREIGN:
            return
        wanting = [each for each in ("wandb",) if each in block.text.lower() and importlib.util.find_spec(each) is None]
        if wanting:
            with pytest.raises(MissingExtraError, match=wanting[0]):
                self._train(cfg)
        else:
            self._train(cfg)

    def _train(self, cfg: Config) -> None:
        """Trains a small run for three epochs with the config sections of the page."""
        self._runs += 1
        ours = settings(f"run{self._runs}")
        theirs = {
            key: value for key, value in cfg.to_dict().items() if key in ours or key.endswith(("s", "_cfg", "er"))
        }
        hooks = {**ours["default_hooks"], **theirs.get("default_hooks", {})}
        Runner.from_cfg(Config({**ours, **theirs, "default_hooks": hooks})).train()

    def _try_code(self, block: Block) -> None:
        if '"my_config.py"' in block.text:
            Path("my_config.py").write_text(TINY)  # it stands for the reader's own
        if '"model.pth"' in block.text and not Path("model.pth").exists():
            name = "fashion-seg" if "images" in block.text else "fashion-cls"  # which is exported in a short time
            runner = save_untrained(recipe(name, Path("work")), Path("model.pth"))
            save_pictures(runner.test_dataloader.dataset, Path("images"))
        exec(compile("\n" * (block.line - 1) + block.text, str(self.path), "exec"), self.names)

    def _try_script(self, block: Block) -> None:
        for command in re.findall(r"footplate (.*?)(?: \|\|| >|$)", block.text, re.MULTILINE):
            _parse(shlex.split(command))

    def _try_commands(self, block: Block) -> None:
        if block.text.startswith("$ "):
            self._try_session(block)
            return
        for line in block.text.replace("\\\n", "").splitlines():
            words = shlex.split(line, comments=True)
            for begins, command in itertools.groupby(words, lambda word: word != "&&"):
                if begins:
                    self._try_command(list(command))

    def _try_session(self, block: Block) -> None:
        """Runs each command after a `$` and compares its output with the text below it."""
        for session in block.text.split("$ footplate ")[1:]:
            command, _, expected = session.partition("\n")
            main(command.split())
            captured = self._capsys.readouterr()
            assert captured.out + captured.err == expected, command

    def _try_command(self, words: list[str]) -> None:
        program, arguments = words[0], words[1:]
        if program == "footplate":
            _parse(arguments)
            if arguments[0] in _SHORT and all(map(_is_there, arguments[1:])):
                assert main(arguments) == 0, words
        elif program in ("python", "torchrun") and "footplate" in arguments:  # ... -m footplate ...
            _parse(arguments[arguments.index("footplate") + 1 :])
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif program == "pip":
            extras = [name for each in arguments for found in _EXTRA.findall(each) for name in found.split(",")]
            assert all(f"\n{name} = [" in (ROOT / "pyproject.toml").read_text() for name in extras), words
        elif program == "docker":
            names = re.findall(r"--build-arg (\w+)=", " ".join(arguments))
            assert all(f"\nARG {name}=" in (ROOT / "Dockerfile").read_text() for name in names), words
        elif program in ("python", "torchrun"):  # a script of the repository or of the page
            script = next(each for each in arguments if each.endswith(".py"))
            assert (ROOT / script).is_file() or Path(script).is_file(), words
        else:
            assert program in {"cd", "git", "mv", "source", "tar"}, words

    def _write(self, block: Block) -> None:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text)


def check_words(command: str) -> None:
    """Asserts that a command in a sentence and its options exist."""
    name, *words = command.replace("\\", "").split()
    if name.startswith("-"):
        assert name in build_parser().format_help(), command
        return
    commands = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert commands is not None
    assert name in commands or name == "COMMAND", command
    for option in [each for each in words if each.startswith("--")]:
        assert option in commands[name].format_help(), command  # type: ignore[index]


def _parse(arguments: list[str]) -> None:
    """Asserts that the command line accepts these arguments; each placeholder is one argument."""
    build_parser().parse_args([each.removesuffix("...") for each in arguments])


def _is_there(argument: str) -> bool:
    """Checks whether an argument that looks like a path is one."""
    return not ("/" in argument or argument.endswith(".py")) or Path(argument).exists()
