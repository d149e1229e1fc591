import json
import runpy
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from torch's compiler
@pytest.mark.parametrize(("command", "place"), [("check", "compile"), ("train", "optim_wrapper.compile")])
def test_data_config_starts_no_program(
    tiny: Path, footplate: Command, command: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tiny.parent / "cache"))  # an empty cache
    program = tiny.parent / "program"
    program.write_text('#!/bin/sh\ntouch "$(dirname "$0")/ran"\nexit 1\n')
    program.chmod(0o755)
    config = {key: value for key, value in runpy.run_path(str(tiny)).items() if not key.startswith("_")}
    section = config["optim_wrapper"] if place.startswith("optim_wrapper") else config
    section["compile"] = {"options": {"cpp.cxx": [str(program)], "fx_graph_cache": False}}
    (tiny.parent / "tiny.json").write_text(json.dumps(config))
    code, _, errors = footplate(command, "tiny.json", *(["--work-dir", "work"] if command == "train" else []))
    assert not (tiny.parent / "ran").exists()
    assert (code, f"key {place}.options.cpp.cxx" in errors) == (2, True)
