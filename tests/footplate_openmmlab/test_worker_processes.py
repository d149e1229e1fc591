import importlib

import footplate_openmmlab as openmmlab
from footplate.data import SampleLoader
from tests.footplate_openmmlab.conftest import WritePackage

DATASET = """
from mmcv.parallel import DataContainer
from mmengine.dataset import BaseDataset

class Pictures(BaseDataset):
    def load_data_list(self):
        return [{"value": index} for index in range(4)]

    def prepare_data(self, index):
        return self.get_data_info(index)["value"]
"""


def test_started_workers_find_the_import_names(package: WritePackage) -> None:
    package("pictures_of_a_code_base", {"__init__": DATASET})
    openmmlab.install()
    dataset = importlib.import_module("pictures_of_a_code_base").Pictures()
    loader = SampleLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
