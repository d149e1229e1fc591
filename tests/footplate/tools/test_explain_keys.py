import re
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ConfigKeyError
from footplate.tools.explain_keys import explain_config, explain_key, history
from footplate.tools.overrides import apply_overrides

FILES = {
    "base.py": "optimizer = dict(type='SGD', lr=0.1,\n    betas=(0.9, 0.99))\nhook = dict(every=dict(n=1))\n",
    "middle.py": "_base_ = 'base.py'\noptimizer = dict(lr=0.2)\nsteps = [dict(type='A'), dict(type='B')]\n",
    "main.py": "_base_ = 'middle.py'\n\noptimizer = dict(\n    _delete_=True, type='Adam', lr=0.3)\nempty = {}\n",
}


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    cfg = Config.fromfile("main.py")
    apply_overrides(cfg, ["hook.every.n=5"])
    return cfg


def test_key_is_shown_with_its_history(cfg: Config) -> None:
    assert explain_key(cfg, "optimizer.lr") == (
        "optimizer.lr = 0.3\n     0.1  # base.py:1\n  -> 0.2  # middle.py:2\n  -> 0.3  # main.py:4\n"
    )
    assert explain_key(cfg, "hook").endswith("  # set at base.py:3\n  # items changed by --set\n")


def test_lines_have_80_columns_and_changed_values_are_not_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names, others = ([f"{kind} {number}" for number in range(20)] for kind in ("class", "other"))
    Path("a.py").write_text(f"classes = {names}\nunchanged = {others}\nlr = 0.1\n")
    cfg = Config.fromfile("a.py")
    apply_overrides(cfg, [f"classes={[*names, 'last']}", "lr=0.25"])
    for text in (explain_config(cfg), explain_key(cfg, "classes")):
        assert max(map(len, text.splitlines()[1:])) <= 80
        plain = re.sub(r"\s*(# )?\s*", "", text)
        for values in (names, [*names, "last"]):
            assert "".join(f"'{name}'," for name in values).replace(" ", "")[:-1] in plain
    assert "'other 0', 'other 1'" in explain_config(cfg)
    assert "other 19" not in explain_config(cfg)
    assert re.search(r"lr = 0.25 +# --set  was 0.1, a.py:3\n", explain_config(cfg))


def test_nearest_key_is_suggested_for_an_unknown_key(cfg: Config) -> None:
    with pytest.raises(ConfigKeyError, match="'hook.every' has no key 'm'"):
        explain_key(cfg, "hook.every.m")
    with pytest.raises(ConfigKeyError, match="'optimizr'") as caught:
        explain_key(cfg, "optimizr.lr")
    assert caught.value.suggestion == "optimizer"


def test_list_item_set_by_an_override_has_its_origin(tmp_path: Path) -> None:
    values = "[1, 2, 3]"
    (tmp_path / "a.py").write_text(f"sizes = {values}\nsteps = [dict(type='A', size={values})]\n")
    config = Config.fromfile(tmp_path / "a.py")
    apply_overrides(config, ["sizes.1=7", "steps.0.size.2=8"], strict=False)
    sizes, _, size = (
        line for line in explain_config(config).splitlines() if "--cfg-options" in line or "type=" in line
    )
    assert re.search(rf"--cfg-options  was {re.escape(values)}, .*a.py:1$", sizes)
    assert re.search(rf"--cfg-options  was {re.escape(values)}, .*a.py:2$", size)
    assert [list(step.value)[1] for step in history(config, "sizes")] == [2, 7]
