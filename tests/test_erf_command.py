"""The command `erf`, in this process, in one of its own, and as pip installs it."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import NETS, ROOT, SCRIPTS, heed_ctrl_c, model_settings
from erf.__main__ import main
from erf.models.factory import load_model
from erf.models.measure_model import measure_model
from erf.result.field import ReceptiveField

SMALL = ["--input-size", "12", "10", "--count", "3"]


@pytest.fixture
def nets(tmp_path, monkeypatch) -> Path:
    """A working folder with nets.py in it."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(*arguments: str) -> int:
    return main(["measure", *arguments])


def test_the_command_measures_what_the_pipeline_does(nets, capsys):
    arguments = ["nets.py:build", "--layer", "top", *SMALL, "--out", "out/field.npz", "--figure", "out/field.png"]
    assert measured(*arguments) == 0
    field = ReceptiveField.load("out/field.npz")
    same = measure_model(
        model_settings(factory="nets.py:build", layer="top"), torch.device("cpu"), torch.float32, trust=["nets.py"]
    )
    np.testing.assert_array_equal(field.map, same.map)
    assert field.settings == same.settings
    with Image.open("out/field.png") as image:
        assert image.width >= 600 and np.ptp(np.asarray(image.convert("L"))) > 200
    assert sorted(path.name for path in Path("out").iterdir()) == ["field.npz", "field.png"]
    text = capsys.readouterr().out
    assert "nets.py:build, layer top, unit (3, 2)" in text and "pixel (6, 4) of 12 x 10" in text
    assert f"{field.size:.1f} px [{field.interval[0]:.1f}, {field.interval[1]:.1f}]" in text
    assert "5 x 5 px, of which the ERF's side is" in text


def test_every_option_reaches_the_measurement(nets):
    for number in range(4):
        noise = np.random.default_rng(number).integers(255, size=(20, 30, 3), dtype=np.uint8)
        (nets / "photos").mkdir(exist_ok=True)
        Image.fromarray(noise).save(nets / f"photos/{number}.png")
    torch.save(load_model("nets.py:build", seed=9, trust=["nets.py"]).state_dict(), "weights.pt")
    words = """nets.py:build --kwargs '{"dropout": 0.5}' --weights weights.pt --seed 4 --layer top --unit 1 2
        --channels 1 --mode square --images photos --count 2 --input-size 14 --mean 0.1 0.2 0.3 --std 1 2 3
        --device cpu --dtype float64 --batch-size 1 --threads 1 --out field.npz"""
    assert measured(*shlex.split(words)) == 0
    settings = {"factory": "nets.py:build", "kwargs": {"dropout": 0.5}, "weights": "weights.pt", "seed": 4}
    settings |= {"layer": "top", "unit": [1, 2], "channels": 1, "mode": "square", "source": "photos", "images": 2}
    settings |= {"input_size": [14, 14], "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    field, same = (
        ReceptiveField.load("field.npz"),
        measure_model(settings, torch.device("cpu"), torch.float64, 1, trust=["nets.py"]),
    )
    np.testing.assert_array_equal(field.map, same.map)
    assert field.settings["model"] == settings


def test_the_numbers_as_json(nets, capsys):
    assert measured("nets.py:box", *SMALL, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["rf_height"], found["row"]) == (3, 3, 6)
    assert measured("nets.py:square", *SMALL, "--count", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["low"] is None  # a single image


@pytest.mark.parametrize(
    "words, message",
    [
        ("nets.py:biuld", "nets.py has no function 'biuld': did you mean build?"),
        ("nets.py:build --layer cnov", "unknown layer 'cnov': did you mean conv"),
        ("nets.py:broken", "nets.py:broken fails: ValueError: in two lines (nets.py, line "),
        ("nets.py:build --weights no.pt", "no.pt: no such file of weights"),
        ("nets.py:build --images no/where", "no/where: no such folder of images"),
        ("nets.py:build --unit 70 0", "unit (70, 0) is outside of the layer's plane"),
        ("nets.py:build --kwargs {\"size\":1}", "nets.py:build fails: TypeError: "),
        ("nets.py:box --out nets.py/field.npz", "nets.py"),
    ],
)  # fmt: skip
def test_a_users_mistake_ends_in_one_line_and_1(nets, capsys, words, message):
    before = sorted(nets.rglob("*"))
    assert measured(*words.split(), *SMALL) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert [path for path in sorted(nets.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize("factory", ["exits.py:build", "exits_at_once.py:build", "exits_at_once:build"])
def test_a_factory_that_calls_sys_exit_is_named(nets, capsys, factory):
    (nets / "exits.py").write_text("import sys\ndef build():\n    sys.exit(0)\n", encoding="utf-8")
    (nets / "exits_at_once.py").write_text("import sys\nsys.exit('no GPU')\n", encoding="utf-8")
    assert measured(factory, "--trust", factory.split(":")[0]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {factory.split(':')[0]}") and error.count("\n") == 1
    assert f"it called sys.exit({0 if factory == 'exits.py:build' else 'no GPU'})" in error


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "the following arguments are required: COMMAND"),
        ("measure", "the following arguments are required: MODEL"),
        ("measure x --count 0", "argument --count: '0' is no whole number from 1"),
        ("measure x --count 2.5", "argument --count: '2.5' is no whole number from 1"),
        ("measure x --unit -1 0", "argument --unit: "),
        ("measure x --channels all", "argument --channels: 'all' is no whole number from 0"),
        ("measure x --mode log", "argument --mode: invalid choice: 'log'"),
        ("measure x --kwargs [1]", "argument --kwargs: '[1]' is no object in JSON"),
        ("measure x --kwargs {", "argument --kwargs: '{' is no object in JSON"),
        ("measure x --input-size 1 2 3", "argument --input-size: one number or two"),
        ("measure x --out field.csv", "argument --out: 'field.csv' does not end in .npz"),
        ("measure x --figure field.gif", "argument --figure: 'field.gif' does not end in .png or .pdf or .svg"),
        ("measure x --wieghts none", "unrecognized arguments: --wieghts none"),
    ],
)
def test_wrong_arguments_end_in_their_use_and_2(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_a_missing_package_is_named_before_anything_is_measured(nets, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "erf.result.display", raising=False)
    assert measured("no/such.py:model", "--figure", "x.png") == 1
    assert capsys.readouterr().err == "error: drawing needs matplotlib: python -m pip install matplotlib\n"


# In a process of its own.


def python_m_erf(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    return subprocess.Popen(
        [sys.executable, "-m", "erf", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("words", [["--help"], ["measure", "--help"]])
def test_help_has_examples_and_waits_for_no_torch(words):
    code = (
        "import sys; from erf.__main__ import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and not result.stderr
    assert "erf measure torchvision.models:resnet50 --layer layer4\n" in result.stdout


def test_ctrl_c_ends_in_one_line_and_leaves_nothing(nets):
    (nets / "slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom torch import nn\n"
        "class Slow(nn.Module):\n    def forward(self, x):\n        Path('begun').touch(); time.sleep(60)\n"
        "def build():\n    return Slow()\n"
    )
    command = python_m_erf("measure", "slow.py:build", "--out", "field.npz", preexec_fn=heed_ctrl_c)
    deadline = time.monotonic() + 60
    while not Path("begun").exists():
        assert command.poll() is None and time.monotonic() < deadline, command.stderr.read()
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=30)
    assert (command.returncode, output, errors) == (130, "", "error: stopped by SIGINT\n")
    assert not [path for path in nets.iterdir() if "field" in path.name]


def test_pip_installs_the_command(nets):
    """Without the network: what it depends on is this environment's."""
    source = nets / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(SCRIPTS, source / "scripts", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    venv.create(nets / "venv", with_pip=False)
    python = nets / "venv/bin/python"
    (here,) = (nets / "venv/lib").glob("python*/site-packages")
    (here / "others.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-build-isolation", "--no-deps"]
    subprocess.run([*install, str(source)], check=True, capture_output=True)
    (described,) = here.glob("*.dist-info")
    assert described.name.startswith("effective_receptive_field-")
    assert {path.name for path in here.iterdir()} == {"erf", described.name, "others.pth"}  # and no experiments
    command = [nets / "venv/bin/erf", "measure", "nets.py:box", *SMALL, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=nets)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["size"] == 3
    wrong = subprocess.run([*command[:2], "nets:biuld", "--trust", "nets"], capture_output=True, text=True, cwd=nets)
    assert wrong.returncode == 1
    assert wrong.stderr == "error: nets has no function 'biuld': did you mean build?\n"


def test_the_library_needs_no_more_than_it_declares(nets):
    """What the project has beside that, for its pipeline and its tests, cannot be imported here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = lambda requirements: {re.match(r"[\w-]+", one)[0].lower() for one in requirements}  # noqa: E731
    others = names(itertools.chain(*extras.values())) - names(project["dependencies"] + extras["models"])
    modules = [module for module, found in metadata.packages_distributions().items() if names(found) & others]
    assert {"pandas", "snakemake", "yaml", "hypothesis"} <= set(modules)
    program = f"""import sys
sys.modules.update(dict.fromkeys({modules}))
from erf.__main__ import main
import erf, torch
assert erf.theoretical_rf(torch.nn.Conv2d(3, 1, 3), input_shape=(3, 9, 9)).size == (3, 3)
sys.exit(main({["measure", "nets.py:box", *SMALL, "--figure", "box.png", "--out", "box.npz"]}))"""
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=nets, env=environment)
    assert result.returncode == 0, result.stderr
    assert (nets / "box.png").exists() and (nets / "box.npz").exists()
