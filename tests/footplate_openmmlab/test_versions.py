import sys
from types import ModuleType

import pytest

from footplate.cli.error_messages import describe_error
from footplate_openmmlab.versions import accepted_ranges, is_for_mmcv_1, show_accepted_versions

CLASSIFICATION = """
mmcv_minimum_version = '1.4.2'
mmcv_maximum_version = '1.9.0'
assert digit_version(mmcv.__version__) >= digit_version(mmcv_minimum_version)
"""
SEGMENTATION = "MMCV_MIN = '2.0.0rc4'\nMMCV_MAX = '2.2.0'\nMMENGINE_MIN, other = '0.5.0', 1\nMMENGINE_MAX = '1.0.0'\n"


@pytest.fixture
def mmcv(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("mmcv")
    vars(module).update(__version__="2.2.0", version_info=(2, 2, 0, 0, 0, 0))
    monkeypatch.setitem(sys.modules, "mmcv", module)
    return module


def test_ranges_are_read_from_the_source() -> None:
    assert accepted_ranges(CLASSIFICATION) == {"mmcv": ("1.4.2", "1.9.0")}
    assert accepted_ranges(SEGMENTATION) == {"mmcv": ("2.0.0rc4", "2.2.0"), "mmengine": ("0", "1.0.0")}
    assert accepted_ranges("import mmcv\nmmap_max = '4096'") == {}
    assert accepted_ranges("assert mmcv.__version__ <= '1.5.0'\nprint 'ready'") == {}
    checks = "assert parse(mmcv.__version__) >= parse('1.3.8') and mmcv.__version__ <= \"1.5.0\"\nif x: raise"
    assert accepted_ranges(checks) == {"mmcv": ("1.3.8", "1.5.0")}
    refusals = "if digit_version(mmcv.__version__) >= digit_version('2.0.0'):\n    raise ImportError"
    assert accepted_ranges(refusals) == {"mmcv": ("0", "2.0.0")}
    assert is_for_mmcv_1(refusals)
    assert not is_for_mmcv_1(SEGMENTATION)


@pytest.mark.parametrize(("limits", "shown"), [(("2.16.0", "2.23.0"), "2.16.0"), (("2.16.0", "3.0.0"), "2.28.2")])
def test_a_code_base_sees_an_accepted_version_of_another_code_base(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limits: tuple[str, str], shown: str
) -> None:
    mmdet, relaxed = ModuleType("mmdet"), dict[str, str]()
    vars(mmdet).update(__version__="2.28.2")
    monkeypatch.setitem(sys.modules, "mmdet", mmdet)
    for name in ("versions.RELAXED", "extension.OpenMMLab.advice"):
        monkeypatch.setattr(f"footplate_openmmlab.{name}", relaxed)
    caplog.set_level("INFO", logger="footplate")
    show_accepted_versions(f"mmdet_minimum_version = '{limits[0]}'\nmmdet_maximum_version = '{limits[1]}'\n")
    assert mmdet.__version__ == shown
    warned = [
        "mmdet 2.28.2 is installed, but a code base accepts versions up to 2.23.0. footplate reports 2.16.0 to it."
    ]
    assert caplog.messages == (warned if shown == "2.16.0" else [])
    with pytest.raises(TypeError) as caught:
        len(3)  # type: ignore[arg-type]
    message, _ = describe_error(caught.value) or ("", 0)
    assert ("  mmdet 2.28.2 is installed, but a code base accepts versions up to 2.23.0.\n" in message) == (
        shown == "2.16.0"
    )
