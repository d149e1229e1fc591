import collections.abc
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import footplate_openmmlab as openmmlab
from footplate_openmmlab.patches import describe_patches, patch, uses_removed_names
from footplate_openmmlab.skipped_imports import MissingPackageError
from tests.footplate_openmmlab.conftest import WritePackage

CODE = """
import time, torch._six
import numpy as np
import PIL.Image
from collections import OrderedDict, Mapping as Map
from torch._six import string_classes
from numpy.lib.twodim_base import tri
from os.path import join

WHOLE = np.zeros(2, dtype=np.int)
TOP = np.Inf
SCALE = np.math.log2(8)
KIND = PIL.Image.ANTIALIAS

def read(path, numpy=None):
    from torch._six import inf
    time.sleep(0)
    return numpy.int if numpy else inf
"""


KIND = "import numpy as np\nkind = np.float\n"


def run(code: str) -> dict[str, Any]:
    """Returns the namespace of the patched code."""
    patched = patch(code, "example")
    assert patched is not None
    namespace: dict[str, Any] = dict(patched[1])
    exec(compile(patched[0], "example.py", "exec"), namespace)
    return namespace


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 still has some of the names")
def test_removed_names_are_replaced() -> None:
    found = run(CODE)
    assert found["WHOLE"].dtype == np.int64
    assert found["TOP"] == float("inf")
    assert found["SCALE"] == 3
    assert found["KIND"] == 1
    assert found["Map"] is collections.abc.Mapping
    assert found["string_classes"] == (str, bytes)
    assert found["tri"] is np.tri
    assert found["read"]("") == float("inf")
    assert found["read"]("", types.SimpleNamespace(int=7)) == 7  # an argument, not the module
    names = ["PIL.Image.ANTIALIAS", "collections.Mapping", "numpy.Inf", "numpy.int", "numpy.lib.twodim_base.tri"]
    names += ["numpy.math", "torch._six.inf", "torch._six.string_classes"]
    assert describe_patches() == ", ".join(names)


def test_an_array_of_one_number_is_stored_as_a_number() -> None:
    code = "import numpy as np\nscore, found = np.zeros(2), {}\nscore[1] = np.array(3.0).reshape(-1)\n"
    names = run(code + "found[1] = np.ones((1, 1)).reshape(-1)\n")
    assert names["score"].tolist() == [0.0, 3.0]
    assert names["found"][1].shape == (1,)
    assert describe_patches() == "numpy.ndarray.__setitem__"


def test_names_that_moved_within_numba_are_replaced(package: WritePackage) -> None:
    errors = {"core/__init__": "", "core/errors": "class NumbaPerformanceWarning: ...\n"}
    package("numba", {"__init__": "from numba.core import errors\n", **errors})
    names = run("from numba.errors import NumbaPerformanceWarning as kind\nimport numba.errors\n")
    assert names["kind"].__module__ == "numba.core.errors"


def test_names_that_moved_within_transformers_are_replaced(
    package: WritePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, module)
    functions = "def apply_chunking_to_forward(): ...\ndef find_pruneable_heads_and_indices(): ...\n"
    package("transformers", {"__init__": "", "modeling_utils": "kind = 1\n", "pytorch_utils": functions})
    imported = "kind, apply_chunking_to_forward as apply, find_pruneable_heads_and_indices as find"
    code = f"from transformers.modeling_utils import {imported}\n"
    assert uses_removed_names(code)
    names = run(code)
    assert (names["kind"], names["apply"].__module__) == (1, "transformers.pytorch_utils")
    assert names["find"].__name__ == "find_pruneable_heads_and_indices"


def test_numbers_out_of_range_wrap_in_calls() -> None:
    found = run("import numpy as np\nshade = np.uint8(-12.75)\nshades = np.uint8(np.array([3, 4]))\nkind = np.uint8")
    assert (found["shade"], found["shade"].dtype, found["kind"]) == (244, np.uint8, np.uint8)
    assert found["shades"].tolist() == [3, 4]


def test_modules_of_second_generation_code_bases_are_patched_if_they_use_removed_names(package: WritePackage) -> None:
    package("mmcv", {"__init__": "__version__ = '2.1.0'\n"})
    ragged = "import numpy as np\nvalues = [[1], [2, 3]]\narray = np.array(values)\n"
    modules = {"data": KIND, "types": "from collections import Sequence\n"}
    package("mmaction", {"__init__": "mmcv_maximum_version = '2.2.0'\n", **modules, "unchanged": ragged})
    openmmlab.install()
    assert importlib.import_module("mmaction.data").kind is float
    assert importlib.import_module("mmaction.types").Sequence is collections.abc.Sequence
    with pytest.raises(ValueError, match="inhomogeneous"):
        importlib.import_module("mmaction.unchanged")


def test_code_for_mmpycocotools_reads_annotations_with_pycocotools(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    content = {
        "images": [{"id": 7}, {"id": 9}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 5, "image_id": 9, "category_id": 2, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    code = "import pycocotools\nassert pycocotools.__version__ >= '12.0.2'\nfrom pycocotools.coco import COCO\n"
    coco = run(code)["COCO"](str(tmp_path / "boxes.json"))
    assert (coco.get_cat_ids(cat_names=["dog"]), coco.get_img_ids(), coco.cat_img_map[2]) == ([2], [7, 9], [9])
    assert coco.load_anns(coco.get_ann_ids(img_ids=[9]))[0]["bbox"] == [0, 0, 2, 2]


def test_old_names_of_matplotlib_styles_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    used: list[Any] = []
    monkeypatch.setattr("matplotlib.style.use", used.append)
    run("import matplotlib.pyplot as plt\nplt.style.use('seaborn-whitegrid')\nplt.style.use('ggplot')\n")
    run("from matplotlib import style\nstyle.use({'lines.linewidth': 2})\nstyle.use('seaborn-nothing')\n")
    assert used == ["seaborn-v0_8-whitegrid", "ggplot", {"lines.linewidth": 2}, "seaborn-nothing"]


TREE = """
import numpy as np

class STRtree:
    def __init__(self, geometries):
        self.geometries = np.array(geometries)
    def query(self, geometry, predicate=None):
        return np.flatnonzero(self.geometries < geometry)
"""


def test_trees_of_shapely_return_geometries(package: WritePackage) -> None:
    package("shapely", {"__init__": "from shapely.strtree import STRtree\n", "strtree": TREE})
    code = "import shapely\nfrom shapely import strtree\ntree = strtree.STRtree([3, 5, 1])\n"
    found = run(f"{code}new = shapely.STRtree([3]).query(4, predicate='within').tolist()\n")
    assert (found["tree"].query(4), found["new"]) == ([3, 1], [0])


METRIC = """
class Metric:
    def __init__(self, sync_on_compute=True):
        self.sync_on_compute = sync_on_compute
"""


def test_metrics_with_an_argument_that_torchmetrics_removed(package: WritePackage) -> None:
    package("torchmetrics", {"__init__": "from torchmetrics.metric import Metric\n", "metric": METRIC})
    code = "from torchmetrics.metric import Metric\nhits = Metric(compute_on_step=False, sync_on_compute=False)\n"
    assert run(code)["hits"].sync_on_compute is False
    vars(importlib.import_module("footplate_openmmlab.old_metrics")).pop("Metric")


GEOMETRY = """
class BaseMultipartGeometry:
    def __init__(self, parts):
        self.geoms = parts
"""


def test_loops_over_the_parts_of_a_geometry(package: WritePackage) -> None:
    package("shapely", {"geometry/__init__": "", "geometry/base": GEOMETRY})
    code = "from shapely.geometry.base import BaseMultipartGeometry\nareas = BaseMultipartGeometry([3, 5])\n"
    loops = "found = [area for area in areas for _ in [0, 1]]\nfor area in areas:\n    found.append(area)\n"
    assert run(code + loops)["found"] == [3, 3, 5, 5, 3, 5]


@pytest.mark.skipif(torch.cuda.is_available(), reason="Without a GPU, these assertions are not checked.")
def test_assertions_that_tensors_are_on_a_gpu_are_not_checked() -> None:
    found = run("def check(x):\n    assert x.is_cuda and x.dim() == 1\n    return x.is_cuda\n")
    assert found["check"](torch.zeros(1)) is False
    with pytest.raises(AssertionError):
        found["check"](torch.zeros(()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="With a GPU, the sources are compiled.")
def test_extensions_for_cuda_are_an_error_only_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate_openmmlab.skipped_imports.missing", {})
    code = "from torch.utils.cpp_extension import load\nwarp = load('warp', ['warp.cpp', 'warp.cu'])\n"
    assert uses_removed_names(code)
    with pytest.raises(MissingPackageError, match="'warp' .*uses 'warp.forward'"):
        run(code)["warp"].forward(1)
    knn = run("import torch.utils.cpp_extension as cpp\nknn = cpp.load(name='knn_ext', sources='knn.cu')\n")["knn"]
    assert callable(knn.knn_wrapper)


def test_polygons_are_filled_with_a_scalar_of_numpy() -> None:
    code = "import cv2, numpy as np\nmask = np.zeros((9, 9), np.float32)\n"
    code += "box = np.array([[1, 1], [7, 1], [7, 7], [1, 7]])\n"
    assert uses_removed_names(code + "cv2.fillPoly(mask, [box], color=np.float32(0.5))")
    found = run(code + "cv2.fillPoly(mask, [box], color=np.float32(0.5))\ncv2.fillPoly(mask, [box[:3]], 1)\n")
    assert sorted(set(found["mask"].ravel().tolist())) == [0.0, 0.5, 1.0]
