"""The training loop: what it does to the weights, and what a kill leaves of it."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

import erf
import measure_snapshots
import measure_units
import train_classifier
import train_segmenter
from conftest import SCRIPTS, classifier_settings, damage, segmenter_settings, settings_file
from erf.errors import InputError
from erf.result.field import load_fields
from erf.system.devices import choose_device
from erf.system.seeds import torch_generator
from replication.datasets.table import DATASETS
from replication.trained.snapshots import batch_size, load_network
from replication.training import command as training_command
from replication.training.images import calibration_images, load_splits
from replication.training.reach import ReachData
from replication.training.resume import (
    check_settings,
    exclusive,
    load_snapshot,
    load_state,
    run_training,
    save_state,
    settle_arithmetic,
)
from replication.training.speed import (
    Convolution,
    bf16_is_faster,
    convolution_seconds,
    convolutions,
    has_bf16,
    training_flops,
)
from replication.training.trainer import Recipe, Trainer, mean_iou

CPU = torch.device("cpu")
STATE = Path("resume/cpu-float32")
RECIPE = Recipe(epochs=4, learning_rate=0.1, warmup=0.25, momentum=0.9, weight_decay=0.0, label_smoothing=0.0)


def small_trainer(recipe: Recipe = RECIPE) -> Trainer:
    from replication.stacks.structures import structure
    from replication.training.reach import ReachNet

    data = ReachData(side=9, distance=1, batch_size=32, steps=15, seed=0, device=CPU)
    return Trainer(ReachNet(structure("plain", 4), 8, torch_generator(0)), data, recipe, CPU)


def test_the_convolutions_of_a_network_are_found_with_their_shapes(training_settings, small_data):
    """A stem, one block of two, and one on top: of two shapes; their arithmetic is the network's but for its head."""
    trainer = train_classifier.build_trainer(training_settings, small_data, 0, CPU)
    images, _ = next(iter(trainer.data.training_batches(1)))
    found = convolutions(trainer.model, images)
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    assert found == {
        Convolution((20, 3, 32, 32), (8, 3, 3, 3), **options, first=True): 1,
        Convolution((20, 8, 32, 32), (8, 8, 3, 3), **options, first=False): 3,
    }
    flops = sum(2 * (3 - one.first) * n * 32 * 32 * np.prod(one.weight) for one, n in found.items()) + 3 * 2 * 8 * 10
    assert training_flops(trainer.model, images[:1]) == flops
    assert 0 < convolution_seconds(found, CPU, torch.float32) < 10


@pytest.mark.parametrize("seconds, error, faster", [(0.5, 0.01, True), (2.0, 0.01, False), (0.5, 0.3, False)])
def test_bf16_is_taken_where_it_is_faster_and_right(monkeypatch, seconds, error, faster):
    one = Convolution((2, 3, 8, 8), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1, first=True)
    took = {torch.bfloat16: seconds, torch.float32: 1.0}
    monkeypatch.setattr(Convolution, "seconds", lambda self, device, dtype: took[dtype])
    monkeypatch.setattr(Convolution, "bf16_error", lambda self, device: error)
    assert bf16_is_faster({one: 2}, CPU) == faster


def test_bf16_of_a_convolution_is_near_float32():
    one = Convolution((2, 3, 8, 8), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1, first=False)
    assert 1e-4 < one.bf16_error(CPU) < 0.02


@pytest.mark.parametrize("faster", [True, False])
def test_a_training_goes_on_in_the_arithmetic_in_which_it_began(tmp_path, monkeypatch, faster):
    """Whatever is faster now: timings vary, and the other way would begin anew."""
    monkeypatch.setattr("replication.training.resume.has_bf16", lambda device: True)
    monkeypatch.setattr("replication.training.resume.convolutions", lambda model, images: {})
    monkeypatch.setattr("replication.training.resume.bf16_is_faster", lambda found, device: faster)
    folder = settle_arithmetic(small_trainer(), tmp_path)
    assert folder == tmp_path / ("cpu-bf16" if faster else "cpu-float32")
    save_state(folder / "state.pt", {})
    monkeypatch.setattr("replication.training.resume.bf16_is_faster", lambda found, device: not faster)
    trainer = small_trainer()
    assert settle_arithmetic(trainer, tmp_path) == folder and trainer.bf16 == faster


def test_the_arithmetic_may_be_named(tmp_path, monkeypatch):
    """And is not timed then: the same training has the same bits again."""
    for has, wanted in ((True, "bf16"), (True, "float32"), (False, "float32")):
        monkeypatch.setattr("replication.training.resume.has_bf16", lambda device, has=has: has)
        trainer = small_trainer()
        assert settle_arithmetic(trainer, tmp_path, wanted) == tmp_path / f"cpu-{wanted}"
        assert trainer.bf16 == (wanted == "bf16")
    with pytest.raises(InputError, match="arithmetic: this cpu has no bf16; set it to float32 or auto"):
        settle_arithmetic(small_trainer(), tmp_path, "bf16")


def test_the_learning_rate_is_a_triangle():
    trainer = small_trainer()
    rates = [trainer.learning_rate(step) for step in range(60)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.1, rel=0.05) and peak == pytest.approx(15, abs=1)
    rises, falls = ([b - a for a, b in itertools.pairwise(part)] for part in (rates[:peak], rates[peak + 1 :]))
    assert max(rises) == pytest.approx(min(rises)) and max(falls) == pytest.approx(min(falls))
    assert 0 < rates[-1] < 0.003


def test_a_constant_learning_rate_rises_as_the_triangle_does_and_stays():
    triangle, constant = small_trainer(), small_trainer(replace(RECIPE, schedule="constant"))
    rates = [[trainer.learning_rate(step) for step in range(60)] for trainer in (triangle, constant)]
    assert rates[0][:15] == rates[1][:15] and set(rates[1][15:]) == {0.1}


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
        *("--data", str(data), "--settings", settings_file(settings), "--seed", str(seed)),
        *("--device", device, "--resume", str(folder / "resume"), "--out", str(folder / "out")),
    ]


@dataclass
class Run:
    """A training that nothing happened to: its script, its settings, its data, and the folder of its outputs."""

    script: ModuleType
    settings: dict
    data: Path
    out: Path


@pytest.fixture(scope="module", params=["classifier", "segmenter"])
def undisturbed(request, tmp_path_factory, small_data, small_maps) -> Run:
    classifier = request.param == "classifier"
    script = train_classifier if classifier else train_segmenter
    settings = classifier_settings() if classifier else segmenter_settings()
    data = small_data if classifier else small_maps
    folder = tmp_path_factory.mktemp("undisturbed")
    assert script.main(train(folder, data, settings)) == 0
    return Run(script, settings, data, folder / "out")


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
    out = undisturbed.out
    metrics, test, speed = (pd.read_csv(out / f"{name}.csv") for name in ("metrics", "test", "speed"))
    assert metrics["epoch"].tolist() == list(range(7))
    score, least = ("accuracy", 0.3) if undisturbed.script is train_classifier else ("mean_iou", 0.15)
    best = metrics[f"validation_{score}"].idxmax()
    assert load_snapshot(out / "best.pt")["epoch"] == test["best_epoch"].item() == best
    assert metrics[f"validation_{score}"].max() > least  # chance is 0.1, and less for the IoU
    assert test[f"test_{score}"].item() > least / 2
    assert metrics["train_loss"].iloc[-1] < metrics["train_loss"].iloc[1]
    assert sorted(p.name for p in out.glob("epoch_*")) == ["epoch_000.pt", "epoch_002.pt", "epoch_006.pt"]
    assert not torch.equal(*(load_snapshot(out / f"epoch_00{e}.pt")["model"]["head.weight"] for e in (0, 6)))
    assert speed["epoch"].tolist() == list(range(1, 7))
    assert (speed["images_per_second"] > 0).all() and (speed["peak_memory_mb"] > 50).all()
    share = speed["share_of_bf16_peak"]
    assert share.between(0, 1, inclusive="neither").all() if has_bf16(CPU) else share.isna().all()
    assert speed["share_of_convolutions"].between(0, 3, inclusive="neither").all()  # a busy machine may double either
    steps = {train_classifier: 12, train_segmenter: 4}[undisturbed.script]
    images = undisturbed.settings["batch_size"] * steps
    assert np.allclose(speed["pflop"], speed["epoch"] * images * speed["gflop_per_image"] / 1e6)
    assert (speed["arithmetic"] == STATE.name).all()


def test_a_training_repeats_itself_and_another_seed_does_not(undisturbed, tmp_path):
    run = undisturbed
    assert run.script.main(train(tmp_path / "same", run.data, run.settings)) == 0
    assert_same_results(tmp_path / "same" / "out", run.out)
    assert run.script.main(train(tmp_path / "other", run.data, run.settings, seed=1)) == 0
    assert (tmp_path / "other/out/metrics.csv").read_bytes() != (run.out / "metrics.csv").read_bytes()


def test_killed_at_several_moments_a_training_ends_as_if_undisturbed(undisturbed, tmp_path):
    """kill -9 of the real script, once more on every rerun, from its start-up to its last writing."""
    run = undisturbed
    command = [sys.executable, run.script.__file__, *train(tmp_path, run.data, run.settings)]
    state, epochs_when_killed = tmp_path / STATE / "state.pt", []
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
        newest = state if state.exists() else state.with_name("state_before.pt")  # killed between the two
        epochs_when_killed.append(len(load_state(newest, "rows")["rows"]) - 1)
    assert len(set(epochs_when_killed)) >= 3, epochs_when_killed
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert_same_results(tmp_path / "out", run.out)


def test_stopped_after_any_epoch_a_training_ends_as_if_undisturbed(undisturbed, tmp_path):
    run = undisturbed
    for last in range(7):
        folder = tmp_path / str(last)
        trainer = run.script.build_trainer(run.settings, run.data, 0, CPU)
        for row in run_training(trainer, run.settings, 0, folder / STATE):
            if row["epoch"] == last:
                break
        (folder / STATE / ".state.k1ll3d_x.pt").write_bytes(b"half of it")  # as a kill leaves it
        assert run.script.main(train(folder, run.data, run.settings)) == 0
        assert_same_results(folder / "out", run.out)
        assert not list((folder / STATE).glob(".*")) or last == 6  # after the last epoch no state is written


def test_a_constant_rate_and_shifted_labels_go_on_as_if_undisturbed(tmp_path, small_maps):
    """And they change what is learnt."""
    settings = segmenter_settings()
    changed = {**settings, "recipe": {**settings["recipe"], "schedule": "constant"}, "label_shift": 8}
    assert train_segmenter.main(train(tmp_path / "whole", small_maps, changed)) == 0
    trainer = train_segmenter.build_trainer(changed, small_maps, 0, CPU)
    for row in run_training(trainer, changed, 0, tmp_path / "stopped" / STATE):
        if row["epoch"] == 3:
            break
    assert train_segmenter.main(train(tmp_path / "stopped", small_maps, changed)) == 0
    assert_same_results(tmp_path / "stopped/out", tmp_path / "whole/out")
    assert trainer.learning_rate(0) < trainer.learning_rate(9) == trainer.learning_rate(23) == 0.05
    network = load_network(tmp_path / "whole/out/epoch_006.pt", changed, 0, torch.zeros(2, 3, 48, 64))
    assert network[1] == 6
    with pytest.raises(InputError, match="label_shift is 8 there, None here"):
        load_network(tmp_path / "whole/out/epoch_006.pt", settings, 0, torch.zeros(2, 3, 48, 64))


def test_killed_while_the_outputs_are_written_it_starts_from_what_it_has(undisturbed, tmp_path, monkeypatch):
    run, saved = undisturbed, []

    def save(path, state):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        save_state(path, state)

    monkeypatch.setattr(training_command, "save_state", save)
    with pytest.raises(KeyboardInterrupt):
        run.script.main(train(tmp_path, run.data, run.settings))
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "out")  # as Snakemake does
    assert run.script.main(train(tmp_path, run.data, run.settings)) == 0
    assert_same_results(tmp_path / "out", run.out)


def test_a_training_that_has_ended_is_not_trained_again(undisturbed, tmp_path, monkeypatch):
    """Killed before it knows of the script's end, as on a cluster's login node, Snakemake runs it again."""
    run = undisturbed
    assert run.script.main(train(tmp_path, run.data, run.settings)) == 0
    shutil.rmtree(tmp_path / "out")  # as Snakemake does
    monkeypatch.setattr(Trainer, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert run.script.main(train(tmp_path, run.data, run.settings)) == 0
    assert_same_results(tmp_path / "out", run.out)


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("how", ["cut", "bit"])
@pytest.mark.parametrize("name", ["state.pt", "epoch_002.pt", "both states"])
def test_what_is_damaged_in_the_resume_folder_is_trained_again(undisturbed, tmp_path, how, name):
    run, rng = undisturbed, np.random.default_rng(len(name + how))
    for number in range(5):
        folder = tmp_path / str(number)
        trainer = run.script.build_trainer(run.settings, run.data, 0, CPU)
        for row in run_training(trainer, run.settings, 0, folder / STATE):
            if row["epoch"] == 4:
                break
        for path in ["state.pt", "state_before.pt"] if name == "both states" else [name]:
            damage(folder / STATE / path, rng, how)
        assert run.script.main(train(folder, run.data, run.settings)) == 0
        assert_same_results(folder / "out", run.out)


def test_on_another_kind_of_node_it_begins_anew_and_back_on_the_first_goes_on(
    small_data, tmp_path, training_settings, monkeypatch
):
    """A job that is requeued may find a GPU without bf16."""
    trainer = train_classifier.build_trainer(training_settings, small_data, 0, CPU)
    training = run_training(trainer, training_settings, 0, tmp_path / STATE)
    assert [next(training)["epoch"] for _ in range(3)] == [0, 1, 2]
    before = (tmp_path / STATE / "state.pt").read_bytes()
    monkeypatch.setattr(training_command, "settle_arithmetic", lambda trainer, resume, wanted: resume / "cuda-float16")
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 0
    assert (tmp_path / STATE / "state.pt").read_bytes() == before


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory"), OSError(5, "Input/output")])
def test_a_lack_of_memory_or_a_bad_disk_does_not_pass_for_a_damaged_state(undisturbed, tmp_path, monkeypatch, error):
    run = undisturbed
    trainer = run.script.build_trainer(run.settings, run.data, 0, CPU)
    next(run_training(trainer, run.settings, 0, tmp_path))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        next(run_training(trainer, run.settings, 0, tmp_path))
    assert not list(tmp_path.glob("*.damaged"))


def test_a_damaged_state_costs_one_epoch(undisturbed, tmp_path):
    run = undisturbed
    trainer = run.script.build_trainer(run.settings, run.data, 0, CPU)
    training = run_training(trainer, run.settings, 0, tmp_path)
    assert [next(training)["epoch"] for _ in range(4)] == [0, 1, 2, 3]
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-100])
    trainer = run.script.build_trainer(run.settings, run.data, 0, CPU)
    with pytest.warns(UserWarning, match=r"state\.pt is damaged: what it held is trained again"):
        assert next(run_training(trainer, run.settings, 0, tmp_path))["epoch"] == 3
    assert (tmp_path / "state.pt.damaged").exists()


def test_mean_iou_by_hand():
    """Class 1 is answered where 0 is right; class 3 never occurs, class 2 only as an answer."""
    confusion = torch.tensor([[3, 1, 1, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]).double()
    assert mean_iou(confusion) == pytest.approx((3 / 5 + 4 / 5 + 0) / 3)


def test_void_is_neither_learnt_nor_counted(small_maps):
    trainer = train_segmenter.build_trainer(segmenter_settings(), small_maps, 0, CPU)
    (images, labels), *_ = trainer.data.evaluation_batches("validation")
    with torch.no_grad():
        logits = trainer.forward(images).float()
    assert (labels == 11).any()
    everything = trainer.loss(logits, labels)
    kept = labels.flatten() != 11
    by_hand = torch.nn.functional.cross_entropy(
        logits.movedim(1, -1).flatten(0, 2)[kept], labels.flatten()[kept], trainer.class_weights
    )
    assert everything.item() == pytest.approx(by_hand.item(), rel=1e-5)
    scores = trainer.evaluate("validation")
    right = (logits.argmax(1) == labels)[labels != 11].double().mean().item()
    assert scores["validation_accuracy"] == pytest.approx(right)
    answers, classes = logits.argmax(1)[labels != 11].numpy(), labels[labels != 11].numpy()
    union = [
        ((answers == c) & (classes == c)).sum() / max(((answers == c) | (classes == c)).sum(), 1) for c in range(11)
    ]
    assert scores["validation_mean_iou"] == pytest.approx(np.mean(union))


@pytest.mark.parametrize("width", [320, 512])
def test_a_network_or_batch_too_large_for_memory_ends_in_one_line(tmp_path, small_maps, width):
    """Under a limit on the process's memory: a real allocation that fails, sooner or later."""
    settings = segmenter_settings()
    settings["network"] |= {"width": width}
    settings["batch_size"] = 16
    code = (
        "import resource, sys, torch._dynamo, train_segmenter\n"  # an optimiser imports it
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)\n"
        "sys.exit(train_segmenter.main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *train(tmp_path, small_maps, settings)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    assert result.returncode == 1
    assert errors == ["error: memory has run out: lower batch_size, width or input_size, or run it on a larger machine"]
    assert not (tmp_path / "out").exists()


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


def test_state_and_outputs_lie_apart(small_data, tmp_path, training_settings, capsys):
    training_settings["recipe"]["epochs"] = 1
    training_settings["snapshots"] = [0]
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 0
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
    next(run_training(trainer, training_settings, 0, tmp_path / STATE))
    training_settings["recipe"]["learning_rate"] = 0.3
    assert train_classifier.main(train(tmp_path, small_data, training_settings)) == 1
    assert "recipe.learning_rate is 0.1 there, 0.3 here" in one_line(capsys)
    assert (tmp_path / STATE / "state.pt").exists() and not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_in_vain_ends_the_script(small_data, tmp_path, training_settings, capsys):
    assert train_classifier.main(train(tmp_path, small_data, training_settings, device="cuda")) == 1
    assert "no GPU" in one_line(capsys)


def measure(snapshots: list[Path], run: Run, settings: dict, out: Path, images: int = 4) -> list[str]:
    return [
        *("--snapshots", *map(str, snapshots), "--data", str(run.data), "--seed", "0", "--images", str(images)),
        *("--settings", settings_file(settings), "--device", "cpu", "--out", str(out)),
    ]


def test_snapshots_are_measured(undisturbed, tmp_path):
    run = undisturbed
    snapshots = [run.out / "epoch_000.pt", run.out / "best.pt"]
    assert measure_snapshots.main(measure(snapshots, run, run.settings, tmp_path / "erf.npz")) == 0
    table = pd.read_csv(tmp_path / "erf.csv")
    kernels = pd.read_csv(tmp_path / "erf.tsv", sep="\t")
    means = kernels.groupby("snapshot", sort=False)[["kernel_spread", "branch_share"]].mean()
    pd.testing.assert_frame_equal(means, table.set_index("snapshot")[[*means]], check_like=True, rtol=1e-6)
    first, field = load_fields(tmp_path / "erf.npz")
    assert table["snapshot"].tolist() == [f.settings["snapshot"] for f in (first, field)] == ["epoch_000", "best"]
    assert table["size"].tolist() == [first.size, field.size] and table["dead"].tolist() == [0, 0]
    # One block: stem, two convolutions and top; or, with two stages of a block, 1 + 2 + 2 (1 + 2) + 4 (2 + 4).
    side, position = (9, (16, 16)) if run.script is train_classifier else (33, (24, 32))
    assert field.theoretical_rf == (side, side) and field.position == position
    assert (table["extent"] <= side).all() and (table["extent"] > side - 6).all()
    top, left = (int(centre) - side // 2 for centre in position)
    window = field.map[max(top, 0) : top + side, max(left, 0) : left + side]
    assert window.sum() == pytest.approx(field.map.sum())  # nothing outside of the theoretical RF


def test_other_units_layers_and_images(undisturbed, tmp_path):
    run = undisturbed
    snapshots = [run.out / "epoch_000.pt", run.out / "best.pt"]
    arguments = measure(snapshots, run, run.settings, tmp_path / "units.csv")
    assert measure_units.main(arguments) == 0
    assert measure_snapshots.main(measure(snapshots, run, run.settings, tmp_path / "erf.npz")) == 0
    table, sizes = pd.read_csv(tmp_path / "units.csv"), pd.read_csv(tmp_path / "erf.csv")
    assert table.query("varied == 'reference'")["size"].tolist() == sizes["size"].tolist()
    assert table["varied"].value_counts().to_dict().keys() == {"reference", "unit", "layer", "images", "reading"}
    units = table.query("varied == 'unit' and snapshot == 'best'")
    assert len(units[["unit_row", "unit_column"]].drop_duplicates()) == 4
    side = np.array([32, 32] if run.script is train_classifier else [48, 64])
    quarter = units.set_index("choice").loc["upper left", ["row", "column"]].to_numpy(float)
    assert (np.abs(quarter - side / 4) <= 4).all()
    layers = table.query("varied == 'layer' and snapshot == 'best'")
    assert layers["theoretical_rf"].is_monotonic_increasing and layers["theoretical_rf"].iloc[0] == 3
    assert (layers["size"] <= layers["theoretical_rf"]).all()
    noise = torch.randn(4, 3, *side.tolist(), generator=torch_generator(0, "noise images"))
    dataset = DATASETS[run.settings["dataset"]]
    calibration = calibration_images(load_splits(run.data, dataset, run.settings)["train"], dataset)
    for path, on_images in zip(snapshots, load_fields(tmp_path / "erf.npz"), strict=True):
        model, _ = load_network(path, run.settings, 0, calibration)
        on_noise = erf.measure(model, noise, model.layers()[-1], batch_size=batch_size(noise))
        assert (on_noise.map != on_images.map).any()
        row = table.query("varied == 'images' and snapshot == @path.stem").iloc[0]
        numbers = ["size", "diameter", "sigma_rows", "sigma_columns"]
        found = [on_noise.size, on_noise.diameter, *on_noise.sigma]  # of batches that differ, and so does the rounding
        np.testing.assert_allclose(row[numbers].to_numpy(float), found, rtol=1e-6)


def test_the_statistics_that_training_left_are_no_part_of_what_is_measured(undisturbed, tmp_path):
    """Every snapshot takes them from the same training images."""
    run, tables = undisturbed, []
    for name, shift in (("as trained", 0.0), ("shifted", 5.0)):
        snapshot = load_snapshot(run.out / "best.pt")
        for key, tensor in snapshot["model"].items():
            if key.endswith("running_mean"):
                tensor += shift
        save_state(tmp_path / name / "best.pt", snapshot)
        out = tmp_path / name / "erf.npz"
        assert measure_snapshots.main(measure([tmp_path / name / "best.pt"], run, run.settings, out)) == 0
        tables.append(out.with_suffix(".csv").read_text())
    assert tables[0] == tables[1]


def test_foreign_snapshots_are_refused(undisturbed, tmp_path, capsys):
    run, out = undisturbed, tmp_path / "erf.npz"
    best = run.out / "best.pt"
    other = {**run.settings, "network": {**run.settings["network"], "width": 16}}
    for script in (measure_snapshots, measure_units):
        assert script.main(measure([best], run, other, out)) == 1
        assert "network.width is 8 there, 16 here" in one_line(capsys)
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(best.read_bytes()[:-500])
    assert measure_snapshots.main(measure([damaged], run, run.settings, out)) == 1
    assert "damaged.pt: damaged or not one of ours" in one_line(capsys)
    torch.save(load_snapshot(best)["model"], damaged)  # weights alone, as other people save them
    assert measure_snapshots.main(measure([damaged], run, run.settings, out)) == 1
    assert "damaged.pt: damaged or not one of ours" in one_line(capsys)
    missing = tmp_path / "missing.pt"
    assert measure_snapshots.main(measure([missing], run, run.settings, out)) == 1
    assert one_line(capsys) == f"error: {missing}: No such file or directory"
    assert measure_snapshots.main(measure([best], run, run.settings, out, images=101)) == 1
    assert "101 images are wanted, but there are only" in one_line(capsys)
    assert not out.exists()


def test_settings_that_differ_are_named_with_their_path():
    check_settings(Path("x.pt"), {"a": {"b": 1}}, {"a": {"b": 1}})
    with pytest.raises(InputError, match=r"x\.pt: made with other settings \(a\.b is 1 there, 2 here; c is None there"):
        check_settings(Path("x.pt"), {"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})
