"""Whose code may run as a model: a library's models, files named on the command line, and what the user trusts."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from torch import nn

import measure_model as script
from conftest import NETS, SCRIPTS, model_settings, settings_file, snakemake
from erf.__main__ import main
from erf.errors import InputError
from erf.models.factory import load_factory, load_model
from erf.models.torchvision_import import import_torchvision
from test_config import changed, check, line_of

TOUCHES = "from pathlib import Path\nPath('executed').touch()\n"


@pytest.fixture
def nets(tmp_path, monkeypatch) -> Path:
    """A working folder with models in nets.py, and with evil.py, which leaves a file when it is imported."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "evil.py").write_text(f"{TOUCHES}def build():\n    pass\n")
    (tmp_path / "evil_package").mkdir()
    (tmp_path / "evil_package/__init__.py").write_text(TOUCHES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "place",
    [
        *("evil", "evil.py", "./evil.py", "evil_package", "evil_package.sub", "..evil", "", "subprocess", "builtins"),
        *("torch", "torch.hub", "torch.nnx", "nn", "timm.models", "torchvision", "torchvision.io"),
        "torchvision.datasets.utils",
    ],
)
def test_nothing_is_imported_that_is_not_trusted(nets, place):
    before = set(sys.modules)
    with pytest.raises(InputError) as caught:
        load_model(f"{place}:build", {"args": ["touch", "executed"]}, trust=["nets.py", "nets"])
    assert "\n" not in str(caught.value)
    if place:
        assert str(caught.value).startswith(f"{place} is not trusted, and to import it runs its code")
    assert not Path("executed").exists() and set(sys.modules) == before


def test_the_line_says_how_to_trust(nets, capsys):
    assert main(["measure", "nets:build"]) == 1
    line = "error: nets is not trusted, and to import it runs its code: if you know what it does, add --trust nets"
    assert capsys.readouterr().err == f"{line}, for snakemake --config=trust=nets\n"
    with pytest.raises(InputError, match=r"its code: did you mean torchvision\.models"):
        load_model("torchvision.model:resnet18")


@pytest.mark.parametrize(
    "factory, kwargs",
    [
        ("replication.commands.provenance:output_of", {"command": ["touch", "executed"]}),
        ("erf.models.factory:load_model", {"factory": "evil:build"}),
        ("erf.system.files:set_aside", {"path": "nets.py"}),
        ("torchvision.models:list_models", {}),
        ("torchvision.models:get_model", {"name": "resnet18"}),
        ("torchvision.ops:nms", {}),
        ("torch.nn:Parameter", {}),
        ("torch.nn.utils:parameters_to_vector", {}),
    ],
)
def test_of_a_library_only_models_are_called(nets, factory, kwargs):
    with pytest.raises(InputError, match=f"^{factory} is no model: name a class of models, or a function that torch"):
        load_model(factory, kwargs)
    assert not Path("executed").exists() and Path("nets.py").exists()


@pytest.mark.parametrize(
    "factory, home",
    [
        ("erf.models.factory:Path", "pathlib"),
        ("replication.training.resnets:__class__", "builtins"),
        ("torchvision.models.resnet:partial", "functools"),
        ("torch.nn.modules.module:OrderedDict", "collections"),
        ("own.py:run", "subprocess"),
        ("own.py:renamed", "subprocess"),
        ("own.py:bound", "subprocess"),
        ("own.py:system", os.name),
        ("own:run", "subprocess"),
        ("own:build", "nets"),
    ],
)
def test_what_a_trusted_module_imports_is_not_trusted_with_it(nets, factory, home):
    (nets / "own.py").write_text(
        "import functools, subprocess\nfrom os import system\nfrom subprocess import run, check_output as renamed\n"
        "from nets import build\nbound = functools.partial(run, ['touch', 'executed'])\n"
    )
    with pytest.raises(InputError, match=f"^{factory} is defined in {home}, which is not trusted: if you know"):
        load_model(factory, {"args": ["touch", "executed"]}, trust=["own.py", "own"])
    assert not Path("executed").exists()


def test_attributes_of_attributes_are_out_of_reach(nets):
    for factory in ("nets.py:torch.os.system", "nets:torch.os.system", "torchvision.models:torch.load"):
        with pytest.raises(InputError, match="has no function"):
            load_model(factory, trust=["nets.py", "nets"])


def test_models_of_a_library_need_no_trust(nets):
    assert isinstance(load_model("torch.nn:Conv2d", {"in_channels": 3, "out_channels": 2, "kernel_size": 1}), nn.Conv2d)
    assert load_model("torchvision.models:AlexNet", {"num_classes": 3}).classifier[-1].out_features == 3
    assert load_model("torchvision.models.resnet:resnet18", {"num_classes": 3}).fc.out_features == 3
    network = {"blocks": 1, "width": 4, "residual_scale": 1.0, "centre_light": 0}
    with pytest.raises(
        InputError, match=r"^replication.training.resnets:ResNetCifar fails: TypeError"
    ):  # and so it was called
        load_model("replication.training.resnets:ResNetCifar", network | {"generator": None, "nothing": 0})


def test_all_that_torchvision_lists_is_trusted():
    models = import_torchvision().models
    for name in models.list_models():
        build = models.get_model_builder(name)
        assert load_factory(f"{build.__module__}:{build.__name__}") is build


def test_what_is_trusted_may_be_named_in_several_ways(nets):
    (nets / "own.py").write_text(
        "import functools\nfrom nets import Net, build\n"
        "from torchvision.models import resnet18\nfrom torch.nn import ReLU\n"
        "small = functools.partial(Net, 0.5)\n"
    )
    for factory, trust in [
        ("nets.py:build", ["./nets.py"]),
        (f"{nets}/nets.py:build", ["nets.py"]),
        ("nets.py:Net", [f"{nets}/nets.py"]),
        ("own.py:build", ["own.py", "nets"]),
        ("own.py:small", ["own.py", "nets"]),
        ("own.py:ReLU", ["own.py"]),
        ("own.py:resnet18", ["own.py"]),
        ("own:build", ["own", "nets"]),
    ]:
        assert isinstance(load_model(factory, trust=trust), nn.Module)


def test_a_file_on_the_command_line_is_meant_and_one_in_settings_is_not(nets, capsys):
    small = ["--input-size", "12", "10", "--count", "2", "--json"]
    assert main(["measure", "nets.py:box", *small]) == 0
    assert main(["measure", "nets:box", "--trust", "nets", *small]) == 0
    settings = model_settings(factory="nets.py:box", layer="")
    settings["trust"] = ["nets.py"]  # no setting, whatever it says
    arguments = ["--settings", settings_file({"name": "x", **settings}), "--device", "cpu", "--out", "x.npz"]
    capsys.readouterr()
    assert script.main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: nets.py is not trusted, and to import it runs its code")
    assert script.main([*arguments, "--trust", "nets.py"]) == 0


def test_arguments_that_make_timm_read_pickles_are_refused(monkeypatch):
    timm = types.SimpleNamespace(create_model=print, list_models=list, is_model=lambda name: True)
    monkeypatch.setitem(sys.modules, "timm", timm)
    for key in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"):
        with pytest.raises(InputError, match=f"^timm:x takes no {key} here, which may be a pickle: give a state dict"):
            load_model("timm:x", {key: "x.pt"})


def test_a_library_that_is_missing_is_not_looked_for_in_the_working_folder(nets):
    (nets / "torchvision").mkdir()
    (nets / "torchvision/__init__.py").write_text(TOUCHES)
    program = (
        "import importlib.machinery as machinery, sys\n"
        "sys.path.remove('') if '' in sys.path else None\n"
        "import torch, erf.models.factory\n"
        "find = machinery.PathFinder.find_spec\n"
        "def hidden(name, path=None, target=None):\n"
        "    spec = find(name, path, target)\n"
        "    return None if spec and spec.name == 'torchvision' and 'site-packages' in spec.origin else spec\n"
        "machinery.PathFinder.find_spec = hidden\n"
        "try:\n    erf.models.factory.load_model('torchvision.models:resnet18')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.stdout.startswith("there is no module 'torchvision'"), result.stderr
    assert not Path("executed").exists()


# The pipeline.

MINE = changed("models.alexnet.factory", "tests/conftest.py:build")


def test_a_configuration_cannot_vouch_for_its_code():
    line = "error: config: models.alexnet.factory: 'tests/conftest.py' is code; if you know what it does, add --config "
    assert line_of(MINE) == f"{line}trust=tests/conftest.py"
    told = "error: config: trust: only the command line can say whose code may run: --config=trust=nets.py"
    for trust in ("tests/conftest.py", ["tests/conftest.py"], []):
        assert line_of(changed("trust", trust, MINE)) == told


@pytest.mark.parametrize("trust", ["tests/conftest.py", ["tests/conftest.py"], ["x", "./tests/../tests/conftest.py"]])
def test_the_command_line_can(trust):
    assert line_of(changed("trust", trust, MINE), changes={"trust": trust}) is None


@pytest.mark.parametrize("trust", [None, 5, {"a": "b"}, [5], "", "-c", ["a\nb"], "{a}", ["--out"]])
def test_trust_in_something_else_is_refused(trust):
    line = line_of(changed("trust", trust, MINE), changes={"trust": trust})
    assert line.startswith("error: config: trust")


def test_a_librarys_model_has_no_part_in_what_is_trusted():
    trust = {"trust": ["x", "tests/conftest.py", "x"]}
    run = check(changed("trust", ["tests/conftest.py", "x"], MINE), changes=trust)
    assert run.trust_options("alexnet") == "--trust tests/conftest.py --trust x"
    assert run.trust_options("resnet18") == ""


def test_trust_reaches_the_model_through_the_shell(project):
    """A file whose name a shell would split."""
    odd = project.folder / "my nets;touch executed.py"
    (project.folder / "nets.py").rename(odd)
    models = {"mine": {"factory": f"{odd.name}:box", "layer": ""}}
    project.config = {
        **project.config,
        "models": models,
        "figures": {**project.config["figures"], "models": {"models": ["mine"]}},
    }
    target = "results/small/models/mine.npz"

    def run(*trust: str):
        words = ["--config", *trust] if trust else []
        return snakemake(project.folder, target, f"--configfile={project.write_config()}", *words)

    refused = run()
    assert refused.returncode and "models.mine.factory: 'my nets;touch executed.py' is code; if you" in refused.stderr
    made = run(f"trust={odd.name}")
    assert made.returncode == 0, made.stderr
    assert (project.folder / target).exists() and not (project.folder / "executed").exists()
    assert "Nothing to be done" in run(f"trust=[{odd.name}]").stderr
