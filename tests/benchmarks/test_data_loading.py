"""The benchmark of a user's own DataLoader measures whole epochs."""

import pytest

from benchmarks import data_loading


@pytest.mark.slow
def test_epochs_are_measured_in_each_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_loading, "SAMPLES", 512)
    monkeypatch.setattr(data_loading, "ENGINES", dict(list(data_loading.ENGINES.items())[:2]))
    data_loading.print_epochs(rounds=1)
    head, *rows, load = capsys.readouterr().out.strip().splitlines()
    assert head.split()[-3:] == ["plain", "loop", "footplate"]
    assert [row.split()[1:3] for row in rows] == [["16", "0"], ["16", "2"], ["256", "0"], ["256", "2"]]
    assert all(row.split()[4] == "1.00" and 0.1 < float(row.split()[6]) < 100 for row in rows)
    assert load.startswith("load: ")
