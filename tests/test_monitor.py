"""erf.Monitor: what it measures and when, and that a training does not notice."""

import contextlib
import math
import random
import re
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import erf
from conftest import ROOT
from erf.applied import monitor as module
from erf.models.torchvision_import import import_torchvision

TEXT = (ROOT / "docs/monitor.md").read_text(encoding="utf-8")
IMAGES = torch.randn(3, 3, 20, 24, generator=torch.Generator().manual_seed(1))
LAYERS = ["0", "3", None]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1),
        nn.Dropout(0.3),
        nn.Conv2d(6, 2, 3, padding=1),
    )


class Clock:
    """Stands in for time: it goes on when the test says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A training's step takes 1 s, a measurement of one layer 4 s."""
    clock, measure = Clock(), module.measure

    def slow(*arguments, **options):
        clock.now += 4
        return measure(*arguments, **options)

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "measure", slow)
    return clock


def steps_measured(monitor, clock, count: int) -> list[int]:
    for _ in range(count):
        monitor.step()
        clock.now += 1
    return [row["step"] for row in monitor.rows]


def test_rows_are_what_measure_gives():
    model = network()
    monitor = erf.Monitor(model, IMAGES, LAYERS, every=1, channels=1)
    rows = monitor.step()
    assert rows == monitor.rows and [row["layer"] for row in rows] == LAYERS
    for row, theoretical in zip(rows, (3, 5, 9), strict=True):
        field = erf.measure(model, IMAGES, row["layer"], channels=1)
        assert row["size"] == field.size and row["ratio"] == field.size / theoretical
        assert row["sigma"] == pytest.approx(math.hypot(*field.sigma) / math.sqrt(2))
        assert (row["theoretical_size"], row["images"], row["dead"]) == (theoretical, 3, field.dead)
        assert row["clipped"] == field.clipped and row["seconds"] > 0 and not row["note"]
        np.testing.assert_array_equal(monitor.first[row["layer"]].map, field.map)
    table = monitor.table()
    assert list(table["layer"][:2]) == ["0", "3"] and list(table["size"]) == [row["size"] for row in rows]


def test_without_pandas_the_table_is_a_list(monkeypatch):
    monitor = erf.Monitor(network(), IMAGES, ["0"])
    monitor.step()
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert monitor.table() == monitor.rows and monitor.table()[0] is not monitor.rows[0]


def test_first_and_last_follow_the_training():
    model = network()
    monitor = erf.Monitor(model, IMAGES, ["0"], every=1, share=None)
    monitor.step()
    with torch.no_grad():
        model[0].weight *= torch.eye(3)[1].outer(torch.eye(3)[1])  # only the middle is left
    monitor.step()
    assert monitor.first["0"].size > 2.5 and monitor.last["0"].size == monitor.rows[-1]["size"] == pytest.approx(1)
    assert monitor.last["0"].map.astype(bool).sum() == 1


def test_it_measures_every_so_many_steps(clock):
    monitor = erf.Monitor(network(), IMAGES, ["0"], every=7, share=None)
    assert steps_measured(monitor, clock, 22) == [0, 7, 14, 21]


def test_numbers_of_steps_may_be_given(clock):
    monitor = erf.Monitor(network(), IMAGES, ["0"], every=100, share=None)
    assert [bool(monitor(step)) for step in (0, 60, 99, 130, 190, 260, 261, 300)] == [
        *(True, False, False, True, False, True, False, True)
    ]
    assert not monitor.step() and [row["step"] for row in monitor.rows] == [0, 130, 260, 300]


def test_it_keeps_to_its_share_of_the_time(clock):
    """A measurement of 4 s fits into a tenth of the time once in 40 s, but for the first."""
    monitor = erf.Monitor(network(), IMAGES, ["0"], every=5, share=0.1)
    steps = steps_measured(monitor, clock, 200)
    elapsed = clock.now
    assert steps == [0, 80, 115, 150, 185] and monitor.skipped == 40 - len(steps)
    assert monitor.seconds == 4 * len(steps) and monitor.seconds <= 0.1 * elapsed
    assert not erf.Monitor(network(), IMAGES, ["0"], every=5, share=0.1).rows  # none before the first call


def test_two_layers_take_twice_the_time(clock):
    monitor = erf.Monitor(network(), IMAGES, ["0", "3"], every=5, share=0.1)
    assert steps_measured(monitor, clock, 200) == [0, 0, 155, 155]
    assert [row["seconds"] for row in monitor.rows] == [4] * 4


def test_a_measurement_may_be_asked_for(clock):
    monitor = erf.Monitor(network(), IMAGES, ["0"], every=5, share=0.001)
    monitor.step()
    assert monitor.measure(3)[0]["step"] == 3 and len(monitor.rows) == 2 and monitor.seconds == 8


def test_log_gets_every_finite_number():
    class Everywhere(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True)

    calls = []
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), Everywhere())
    monitor = erf.Monitor(model, IMAGES, ["0", None], log=lambda *call: calls.append(call))
    (first, last) = monitor(4)
    expected = [(f"erf/0/{name}", first[name], 4) for name in ("size", "sigma", "ratio")]
    assert calls == expected + [(f"erf/output/{name}", last[name], 4) for name in ("size", "sigma")]
    assert math.isinf(last["theoretical_size"]) and math.isnan(last["ratio"])


class Noisy(nn.Module):
    """Draws random numbers of all kinds, in evaluation mode too."""

    def forward(self, x):
        return x * (1 + 0.1 * torch.rand(()) + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002


def trained(monitored: bool, where: str = "start", autocast: bool = False) -> tuple[dict, dict, list]:
    """Weights and buffers, the optimizer's state, and what random generators give after a training of six steps."""
    model = nn.Sequential(network(), Noisy())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    torch.manual_seed(2)
    random.seed(3)
    np.random.seed(4)  # noqa: NPY002
    monitor = erf.Monitor(model, IMAGES, ["0.0", "0.3", None], every=1, share=None) if monitored else None
    look = lambda place: monitor.step() if monitor and place == where else None  # noqa: E731
    for step in range(6):
        look("start")
        x = torch.randn(4, 3, 20, 24)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(x).float().square().mean()
            look("before backward")
        loss.backward()
        look("before step")
        if step % 2:  # gradients add up over two steps
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            look("no_grad")
        with torch.inference_mode():
            look("inference mode")
    assert not monitor or (len(monitor.rows) == 18 and not any(row["note"] for row in monitor.rows))
    drawn = [torch.rand(2).tolist(), random.random(), np.random.rand()]  # noqa: NPY002
    return model.state_dict(), optimizer.state_dict()["state"], drawn


PLACES = ["start", "before backward", "before step", "no_grad", "inference mode"]


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("where", PLACES)
def test_a_training_ends_with_the_same_bits(where, autocast):
    (weights, state, drawn), (same, same_state, same_drawn) = (trained(flag, where, autocast) for flag in (True, False))
    assert drawn == same_drawn
    for name, value in weights.items():
        assert torch.equal(value, same[name]), name
    for number, values in state.items():
        assert all(torch.equal(value, same_state[number][key]) for key, value in values.items())


def test_the_training_that_is_compared_would_notice(monkeypatch):
    """Random numbers that are drawn, and a pass in training mode, show in it."""
    _, _, without = trained(False)
    monkeypatch.setattr(module, "_random_states_kept", contextlib.nullcontext)
    assert trained(True)[2] != without
    monkeypatch.undo()

    def in_training_mode(model, images, layer):
        model(images)

    monkeypatch.setattr(module, "measure", in_training_mode)
    (weights, _, drawn), (same, *_) = trained(True), trained(False)
    assert drawn == without and not torch.equal(weights["0.1.running_mean"], same["0.1.running_mean"])


def test_gradients_modes_and_flags_stay():
    model = network().train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model(IMAGES).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}
    modes = [one.training for one in model.modules()]
    flags = [one.requires_grad for one in model.parameters()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = IMAGES.clone().requires_grad_()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        erf.Monitor(model, images, LAYERS).step()
        assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and images.grad is None
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name] and (name not in copies or torch.equal(parameter.grad, copies[name]))
    assert [one.training for one in model.modules()] == modes and model[3].training is False
    assert [one.requires_grad for one in model.parameters()] == flags and flags[0] is False
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())


def test_the_images_are_its_own():
    images = IMAGES.clone()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    monitor = erf.Monitor(model, images, [None], every=1, share=None)
    first = monitor.step()[0]["size"]
    images.zero_()
    assert monitor.step()[0]["size"] == first


def test_a_failed_measurement_ends_no_training(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    logged = []
    monitor = erf.Monitor(model, IMAGES, ["0", None], every=1, share=None, log=lambda *call: logged.append(call))
    with torch.no_grad():
        model[0].bias -= 1000
    with pytest.warns(UserWarning, match="step 0, layer None was not measured: the unit is dead in all 3 images"):
        alive, dead = monitor.step()
    assert alive["size"] > 0 and math.isnan(dead["size"]) and "dead in all" in dead["note"]
    assert {name for name, *_ in logged} == {"erf/0/size", "erf/0/sigma", "erf/0/ratio"} and None not in monitor.last
    with torch.no_grad():
        model[0].bias += 1000
    assert all(row["size"] > 0 for row in monitor.step()) and len(monitor.table()) == 4

    def out_of_memory(*arguments, **options):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(module, "measure", out_of_memory)
    with pytest.warns(UserWarning, match="out of memory"):
        assert "out of memory" in monitor.step()[0]["note"]
    monkeypatch.setattr(module, "measure", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        monitor.step()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": ["covn"]}, "unknown layer 'covn'"),
        ({"layers": "0"}, "layers is a list of names: give ['0']"),
        ({"every": 0}, "every must be a whole number of steps from 1, not 0"),
        ({"every": 2.5}, "every must be a whole number of steps from 1, not 2.5"),
        ({"share": 0}, "share must be above 0 and at most 1, or None for no limit, not 0"),
        ({"share": 5}, "share must be above 0 and at most 1, or None for no limit, not 5"),
        ({"images": [IMAGES]}, "images must be one batch"),
        ({"images": IMAGES[0]}, "the model fails on images of 1 x 20 x 24"),
        ({"images": IMAGES[0, 0]}, "input_shape must be"),
    ],
)
def test_a_mistake_is_named_before_the_training(options, message):
    with pytest.raises(erf.InputError, match=re.escape(message)):
        erf.Monitor(network(), **{"images": IMAGES, **options})


# The examples of docs/monitor.md.


def example(title: str, names: dict) -> dict:
    """Run the code of a section, with these names; all names afterwards."""
    (code,) = re.findall(rf"^## {title}\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    exec(code, names)
    return names


def training(count: int = 3) -> dict:
    model = network()
    batches = [(torch.randn(4, 3, 20, 24), torch.randn(4, 2)) for _ in range(count)]
    return {"model": model, "images": IMAGES, "batches": batches, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}


def test_the_loop(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = training() | {"model": nn.Sequential(*(network()[i] for i in (0, 2, 3, 5)))}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), 0.1)
    example("In a loop of your own", names)
    assert [row["layer"] for row in names["monitor"].rows] == ["0", "2"]
    assert "layer" in capsys.readouterr().out.splitlines()[0]
    assert (tmp_path / "before_after.png").stat().st_size > 10_000


class Writer:
    """Stands in for TensorBoard's SummaryWriter."""

    def __init__(self, folder):
        self.scalars = []

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.scalars.append((tag, scalar_value, global_step))


def test_a_writer_of_tensorboards_kind(monkeypatch):
    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    names = example("TensorBoard", training())
    rows = names["monitor"].step()
    assert names["writer"].scalars[0] == ("erf/0/size", rows[0]["size"], 0) and len(names["writer"].scalars) == 6


def test_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    names = example("TensorBoard", training())
    rows = names["monitor"](7)
    names["writer"].close()
    events = EventAccumulator("runs/with_erf").Reload()
    (event,) = events.Scalars("erf/0/size")
    assert event.step == 7 and event.value == pytest.approx(rows[0]["size"])


class Logger:
    def __init__(self):
        self.metrics = []

    def log_metrics(self, metrics, step):
        self.metrics.append((metrics, step))


def test_a_callback_of_lightnings_kind(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", types.SimpleNamespace(Callback=object))
    callback = example("Lightning", {})["MonitorERF"](IMAGES, ["0"], every=2, share=None)
    trainer = types.SimpleNamespace(loggers=[Logger()], is_global_zero=True, global_step=0)
    model = network()
    callback.on_train_start(trainer, model)
    for trainer.global_step in range(4):
        callback.on_train_batch_start(trainer, model, None, trainer.global_step)
    assert [step for _, step in trainer.loggers[0].metrics] == [0, 0, 0, 2, 2, 2]
    other = types.SimpleNamespace(is_global_zero=False)
    example("Lightning", {})["MonitorERF"](IMAGES, ["no such"]).on_train_start(other, model)  # nothing is measured


def test_lightning(tmp_path):
    import_torchvision()  # which Lightning imports, and which fails beside some builds of torch
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = network()

        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, number):
            return self(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def weights(callbacks) -> dict:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = lightning.Trainer(
            max_epochs=2, logger=False, accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path, **quiet
        )
        torch.manual_seed(5)
        one = Module()
        torch.manual_seed(6)
        trainer.fit(one, torch.utils.data.DataLoader(torch.randn(12, 3, 20, 24), batch_size=4, shuffle=True))
        return one.state_dict()

    callback = example("Lightning", {})["MonitorERF"](IMAGES, ["model.0"], every=2, share=None)
    with_it, without = weights([callback]), weights([])
    assert [row["step"] for row in callback.monitor.rows] == [0, 2, 4]
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())
