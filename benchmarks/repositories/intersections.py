"""Turns info files of BEVFormer for nuScenes into those that MIC-BEV reads.

    python -m benchmarks.repositories.intersections INFOS TARGET

INFOS is a folder with `nuscenes_infos_temporal_train.pkl` and `nuscenes_infos_temporal_val.pkl`, which repositories
that build on BEVFormer write. MIC-BEV's cameras stand at intersections. Here, they are the first four cameras of the
car, and the map around it consists of random classes in a grid of 16 x 16 cells.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np

_CAMERAS, _CELLS, _CLASSES = 4, 16, 7


def main() -> None:
    """Writes the info files and the maps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("infos", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    target = options.target.absolute()
    target.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        data = pickle.loads((options.infos / f"nuscenes_infos_temporal_{split}.pkl").read_bytes())
        for index, info in enumerate(data["infos"]):
            info["cams"] = dict(list(info["cams"].items())[:_CAMERAS])
            info["map_path"] = str(target / f"{split}_{index}.npy")
            np.save(info["map_path"], random.integers(_CLASSES, size=(_CELLS, _CELLS)))
        (target / f"v2xset_infos_temporal_{split}.pkl").write_bytes(pickle.dumps(data))


if __name__ == "__main__":
    main()
