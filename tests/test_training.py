"""The training loop: what it does to the weights, and what a kill leaves of it."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import measure_snapshots
import train_classifier
from conftest import SCRIPTS
from erf.errors import InputError
from erf.reach import ReachData
from erf.seeds import torch_generator
from erf.training import (
    Recipe,
    Trainer,
    check_settings,
    choose_device,
    exclusive,
    load_snapshot,
    load_state,
    run_training,
)

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=4, learning_rate=0.1, warmup=0.25, momentum=0.9, weight_decay=0.0, label_smoothing=0.0)


def small_trainer(recipe: Recipe = RECIPE) -> Trainer:
    from erf.networks import ReachNet

    data = ReachData(side=9, distance=1, batch_size=32, steps=15, seed=0, device=CPU)
    return Trainer(ReachNet(4, 8, torch_generator(0)), data, recipe, CPU)


def test_the_learning_rate_is_a_triangle():
    trainer = small_trainer()
    rates = [trainer.learning_rate(step) for step in range(60)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.1, rel=0.05) and peak == pytest.approx(15, abs=1)
    rises, falls = ([b - a for a, b in itertools.pairwise(part)] for part in (rates[:peak], rates[peak + 1 :]))
    assert max(rises) == pytest.approx(min(rises)) and max(falls) == pytest.approx(min(falls))
    assert 0 < rates[-1] < 0.003


def test_a_near_cue_is_learnt():
    trainer = small_trainer()
    before = trainer.evaluate("test")["test_accuracy"]
    metrics = [trainer.train_epoch(epoch) for epoch in range(1, 5)]
    assert before < 0.7
    assert trainer.evaluate("test")["test_accuracy"] > 0.95
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]


def test_a_loss_that_explodes_is_named():
    trainer = small_trainer(Recipe(4, 1e30, 0.25, 0.9, 0.0, 0.0))
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch 1: lower learning_rate"):
        trainer.train_epoch(1)


def test_a_gpu_that_is_not_there():
    assert choose_device("cpu") == CPU
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
        return
    with pytest.warns(UserWarning, match="no GPU here: running on the CPU"):
        assert choose_device("auto") == CPU
    with pytest.raises(InputError, match="device: cuda was asked for, but torch finds no GPU"):
        choose_device("cuda")


def train(folder: Path, data: Path, settings: dict, seed: int = 0, device: str = "cpu") -> list[str]:
    """Arguments of a training into folder/out, with its resume state in folder/resume."""
    return [
        *("--data", str(data), "--settings", json.dumps(settings), "--seed", str(seed)),
        *("--device", device, "--resume", str(folder / "resume"), "--out", str(folder / "out")),
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_data) -> tuple[Path, dict]:
    """Outputs of a training that nothing happened to, and its settings."""
    from conftest import training_settings

    settings = training_settings.__wrapped__()
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train_classifier.main(train(folder, small_data, settings)) == 0
    return folder / "out", settings


def assert_same_results(found: Path, expected: Path) -> None:
    """Tensors and metrics bit for bit; times and the bytes around the tensors are not compared."""
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in expected.iterdir())
    for path in expected.glob("*.pt"):
        a, b = load_snapshot(found / path.name), load_snapshot(path)
        assert a["epoch"] == b["epoch"] and a["settings"] == b["settings"]
        assert a["model"].keys() == b["model"].keys()
        assert all(torch.equal(tensor, b["model"][name]) for name, tensor in a["model"].items())
    for name in ("metrics.csv", "test.csv"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def test_outputs_of_a_training(undisturbed):
    import pandas as pd

    out, _ = undisturbed
    metrics, test = pd.read_csv(out / "metrics.csv"), pd.read_csv(out / "test.csv")
    assert metrics["epoch"].tolist() == list(range(7))
    best = metrics["validation_accuracy"].idxmax()
    assert load_snapshot(out / "best.pt")["epoch"] == test["best_epoch"].item() == best
    assert metrics["validation_accuracy"].max() > 0.3  # chance is 0.1
    assert test["test_accuracy"].item() > 0.2
    assert sorted(p.name for p in out.glob("epoch_*")) == ["epoch_000.pt", "epoch_002.pt", "epoch_006.pt"]
    assert not (out.parent / "resume").exists()
    assert not torch.equal(*(load_snapshot(out / f"epoch_00{e}.pt")["model"]["head.weight"] for e in (0, 6)))


def test_a_training_repeats_itself_and_another_seed_does_not(undisturbed, small_data, tmp_path):
    out, settings = undisturbed
    assert train_classifier.main(train(tmp_path / "same", small_data, settings)) == 0
    assert_same_results(tmp_path / "same" / "out", out)
    assert train_classifier.main(train(tmp_path / "other", small_data, settings, seed=1)) == 0
    assert (tmp_path / "other" / "out" / "metrics.csv").read_bytes() != (out / "metrics.csv").read_bytes()


def test_killed_at_several_moments_a_training_ends_as_if_undisturbed(undisturbed, small_data, tmp_path):
    """kill -9 of the real script, once more on every rerun, from its start-up to its last writing."""
    out, settings = undisturbed
    command = [sys.executable, str(SCRIPTS / "train_classifier.py"), *train(tmp_path, small_data, settings)]
    state, epochs_when_killed = tmp_path / "resume" / "state.pt", []
    for delay in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = state.stat().st_mtime_ns if state.exists() else None
        while process.poll() is None and (state.stat().st_mtime_ns if state.exists() else None) == before:
            time.sleep(0.002)  # until one more epoch is on disk
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "out" / "best.pt").exists():
            break
        epochs_when_killed.append(len(load_state(state, "rows")["rows"]) - 1)
    assert len(set(epochs_when_killed)) >= 3, epochs_when_killed
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert_same_results(tmp_path / "out", out)
    assert not (tmp_path / "resume").exists()


def test_stopped_after_any_epoch_a_training_ends_as_if_undisturbed(undisturbed, small_data, tmp_path):
    out, settings = undisturbed
    for last in range(7):
        folder = tmp_path / str(last)
        trainer = train_classifier.build_trainer(settings, small_data, 0, CPU)
        for row in run_training(trainer, settings, 0, folder / "resume"):
            if row["epoch"] == last:
                break
        assert train_classifier.main(train(folder, small_data, settings)) == 0
        assert_same_results(folder / "out", out)


def test_killed_while_the_outputs_are_written_it_starts_from_what_it_has(
    undisturbed, small_data, tmp_path, monkeypatch
):
    out, settings = undisturbed
    copied = []

    def copy(source, target):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(target)
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(train_classifier.shutil, "copyfile", copy)
    with pytest.raises(KeyboardInterrupt):
        train_classifier.main(train(tmp_path, small_data, settings))
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "out")  # as Snakemake does
    assert train_classifier.main(train(tmp_path, small_data, settings)) == 0
    assert_same_results(tmp_path / "out", out)


def test_the_best_is_that_of_the_rows_even_if_a_redone_epoch_comes_out_otherwise(
    small_data, tmp_path, training_settings
):
    """As it may on a GPU: killed after an epoch's snapshots and before its state, the epoch is done again."""
    trainer = train_classifier.build_trainer(training_settings, small_data, 0, CPU)
    accuracies = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    trainer.evaluate = lambda split: {"validation_loss": 1.0, "validation_accuracy": next(accuracies)}
    training = run_training(trainer, training_settings, 0, tmp_path)
    assert [next(training)["epoch"] for _ in range(2)] == [0, 1]
    state = (tmp_path / "state.pt").read_bytes()
    next(training)
    (tmp_path / "state.pt").write_bytes(state)  # epoch 2 left a snapshot, but no state
    accuracies = iter([0.6, 0.1, 0.1, 0.1, 0.1])
    rows = list(run_training(trainer, training_settings, 0, tmp_path))
    assert [row["epoch"] for row in rows] == [2, 3, 4, 5, 6]
    assert load_state(tmp_path / "state.pt", "best")["best"]["epoch"] == 2


def test_two_processes_do_not_share_a_training(small_data, tmp_path, training_settings, capsys):
    """A job that outlives its Snakemake still writes into the folder that a rerun would take up."""
    with exclusive(tmp_path / "resume"):
        result = subprocess.run(
            [sys.executable, str(SCRIPTS / "train_classifier.py"), *train(tmp_path, small_data, training_settings)],
            capture_output=True,
            text=True,
        )
    assert result.returncode == 1
    assert f"error: {tmp_path / 'resume'}: in use by another process" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_not_the_trainings_own_is_left_alone(small_data, tmp_path, training_settings, capsys):
    training_settings["recipe"]["epochs"] = 1
    training_settings["snapshots"] = [0]
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "thesis.txt").write_text("years of work")
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 0
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["thesis.txt"]
    arguments = train(tmp_path, small_data, training_settings)
    arguments[arguments.index("--resume") + 1] = str(tmp_path / "out")
    before = sorted((tmp_path / "out").iterdir())
    assert train_classifier.main(arguments) == 1
    assert "--resume and --out are the same folder" in one_line(capsys)
    assert sorted((tmp_path / "out").iterdir()) == before


def one_line(capsys) -> str:
    """The one line of error that a script ended with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_resume_state_of_other_settings_is_refused_and_kept(small_data, tmp_path, training_settings, capsys):
    trainer = train_classifier.build_trainer(training_settings, small_data, 0, CPU)
    next(run_training(trainer, training_settings, 0, tmp_path / "resume"))
    training_settings["recipe"]["learning_rate"] = 0.3
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 1
    assert "recipe.learning_rate is 0.1 there, 0.3 here" in one_line(capsys)
    assert (tmp_path / "resume" / "state.pt").exists() and not (tmp_path / "out").exists()


def test_a_damaged_resume_state_is_named(small_data, tmp_path, training_settings, capsys):
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "state.pt").write_bytes(b"PK\3\4 nothing")
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 1
    assert "state.pt: damaged or not one of ours" in one_line(capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_in_vain_ends_the_script(small_data, tmp_path, training_settings, capsys):
    assert train_classifier.main(train(tmp_path, small_data, training_settings, device="cuda")) == 1
    assert "no GPU" in one_line(capsys)


def measure(snapshots: list[Path], data: Path, settings: dict, out: Path) -> list[str]:
    return [
        *("--snapshots", *map(str, snapshots), "--data", str(data), "--seed", "0", "--images", "6"),
        *("--settings", json.dumps(settings), "--device", "cpu", "--out", str(out)),
    ]


def test_snapshots_are_measured_and_foreign_ones_refused(undisturbed, small_data, tmp_path, capsys):
    import pandas as pd

    from erf.field import ReceptiveField

    out, settings = undisturbed
    snapshots = [out / "epoch_000.pt", out / "best.pt"]
    assert measure_snapshots.main(measure(snapshots, small_data, settings, tmp_path)) == 0
    table = pd.read_csv(tmp_path / "erf.csv")
    field = ReceptiveField.load(tmp_path / "best.npz")
    assert table["snapshot"].tolist() == ["epoch_000", "best"]
    assert table["size"].iloc[1] == field.size and field.map.shape == (32, 32)
    assert field.theoretical_rf == (9, 9) and field.position == (16, 16)
    assert field.map[12:21, 12:21].sum() == pytest.approx(field.map.sum())  # nothing outside of the theoretical RF

    other = {**settings, "network": {**settings["network"], "width": 16}}
    assert measure_snapshots.main(measure(snapshots, small_data, other, tmp_path / "other")) == 1
    assert "network.width is 8 there, 16 here" in one_line(capsys)
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes((out / "best.pt").read_bytes()[:-500])
    assert measure_snapshots.main(measure([damaged], small_data, settings, tmp_path / "other")) == 1
    assert "damaged.pt: damaged or not one of ours" in one_line(capsys)
    torch.save(load_snapshot(out / "best.pt")["model"], damaged)  # weights alone, as other people save them
    assert measure_snapshots.main(measure([damaged], small_data, settings, tmp_path / "other")) == 1
    assert "damaged.pt: damaged or not one of ours" in one_line(capsys)
    missing = tmp_path / "missing.pt"
    assert measure_snapshots.main(measure([missing], small_data, settings, tmp_path / "other")) == 1
    assert one_line(capsys) == f"error: {missing}: No such file or directory"
    assert not (tmp_path / "other").exists()


def test_settings_that_differ_are_named_with_their_path():
    check_settings(Path("x.pt"), {"a": {"b": 1}}, {"a": {"b": 1}})
    with pytest.raises(InputError, match=r"x\.pt: made with other settings \(a\.b is 1 there, 2 here; c is None there"):
        check_settings(Path("x.pt"), {"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})
