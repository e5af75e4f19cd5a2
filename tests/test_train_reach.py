"""train_reach: what an interrupted run has trained is not trained again."""

from pathlib import Path

import pytest
import yaml

import train_reach
from conftest import ROOT, SMALL, settings_file

SETTINGS = {
    **yaml.safe_load((ROOT / "config/config.yaml").read_text())["reach_defaults"],
    **SMALL["reach_defaults"],
    "recipe": {**yaml.safe_load((ROOT / "config/config.yaml").read_text())["reach_defaults"]["recipe"], "epochs": 1},
    "distances": [1, 2, 3],
}


def run(folder: Path, **changes) -> int:
    arguments = ["--settings", settings_file({**SETTINGS, **changes}), "--seed", "0", "--device", "cpu"]
    return train_reach.main([*arguments, "--resume", str(folder / "resume"), "--out", str(folder / "reach.csv")])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder) == 0
    return (folder / "reach.csv").read_bytes()


@pytest.fixture
def trained(monkeypatch) -> list[float]:
    """Distances at which a training is begun; the second is interrupted."""
    distances, train_at = [], train_reach.train_at

    def train(distance, *arguments):
        distances.append(distance)
        if len(distances) == 2:
            raise KeyboardInterrupt
        return train_at(distance, *arguments)

    monkeypatch.setattr(train_reach, "train_at", train)
    return distances


def test_interrupted_it_goes_on_and_ends_as_if_undisturbed(tmp_path, undisturbed, trained):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert run(tmp_path) == 0
    assert (tmp_path / "reach.csv").read_bytes() == undisturbed
    assert trained == [1, 2, 2, 3]
    (tmp_path / "reach.csv").unlink()
    assert run(tmp_path) == 0  # killed after its end, before Snakemake knows
    assert (tmp_path / "reach.csv").read_bytes() == undisturbed
    assert trained == [1, 2, 2, 3]


def test_a_damaged_state_is_begun_anew_and_one_of_other_settings_refused(tmp_path, undisturbed, trained, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert run(tmp_path, width=8) == 1
    assert "width is 4 there, 8 here" in capsys.readouterr().err
    (state,) = (tmp_path / "resume").glob("*/rows.pt")
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.warns(UserWarning, match=r"rows\.pt is damaged: what it held is trained again"):
        assert run(tmp_path) == 0
    assert (tmp_path / "reach.csv").read_bytes() == undisturbed
    assert trained == [1, 2, 1, 2, 3]
