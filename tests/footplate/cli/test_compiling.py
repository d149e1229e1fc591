import json
import runpy
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from torch's compiler
def test_data_config_starts_no_program(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tiny.parent / "cache"))  # an empty cache
    program = tiny.parent / "program"
    program.write_text('#!/bin/sh\ntouch "$(dirname "$0")/ran"\nexit 1\n')
    program.chmod(0o755)
    config = {key: value for key, value in runpy.run_path(str(tiny)).items() if not key.startswith("_")}
    config["compile"] = {"options": {"cpp.cxx": [str(program)], "fx_graph_cache": False}}
    (tiny.parent / "tiny.json").write_text(json.dumps(config))
    code, _, errors = footplate("check", "tiny.json")
    assert not (tiny.parent / "ran").exists()
    assert (code, "key compile.options.cpp.cxx" in errors) == (2, True)
