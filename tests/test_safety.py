"""What code may not do, wherever it stands: load pickles, run text as code, or hand text to a shell."""

import argparse
import ast
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ROOT, SCRIPTS, cifar_batch
from erf.errors import InputError
from erf.models.weights import load_weights
from erf.result.field import load_fields
from erf.system.files import read_arrays
from replication.commands.cli import read_settings
from replication.downloads.cifar10_batch import read_cifar10_batch
from replication.training.resume import load_state

SOURCES = sorted(SCRIPTS.rglob("*.py"))
RULES = sorted((ROOT / "workflow").rglob("*.smk"))
FORBIDDEN = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "torch.jit.load"}


def calls(path: Path):
    """Name of what is called, dotted, and the call, of all calls in a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str):
    """Value of a literal keyword argument; None if it is not given."""
    return next((ast.literal_eval(given.value) for given in call.keywords if given.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_every_file_is_read_in_a_way_that_runs_nothing(path):
    for name, call in calls(path):
        assert name not in FORBIDDEN, f"line {call.lineno}"
        assert name not in ("np.load", "numpy.load"), f"line {call.lineno}: read_arrays holds sizes against the file"
        if name.endswith(".read_array"):
            assert keyword(call, "allow_pickle") is False, f"line {call.lineno}"
        if name == "torch.load":
            assert keyword(call, "weights_only") is True, f"line {call.lineno}"
        if name.startswith("yaml."):
            assert name == "yaml.safe_load", f"{name} in line {call.lineno}"
        if re.fullmatch(r"subprocess\.\w+", name):
            assert not keyword(call, "shell") and not isinstance(call.args[0], ast.JoinedStr), f"line {call.lineno}"


# Read as UTF-8 in any locale: a machine in ISO 8859-1 would read and write what others cannot.
TEXTS = {"read_text", "write_text", "to_csv", "pd.read_csv", "jinja2.FileSystemLoader"}
OPENERS_OF_BYTES = {"Image.open", "gzip.open", "tarfile.open", "file.open", "archive.open"}  # the last two are ZIP's
PYTHON = [*SOURCES, *sorted((ROOT / "workflow").rglob("*.py"))]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_is_read_and_written_as_utf_8(path):
    for name, call in calls(path):
        last = name.rpartition(".")[2]
        if last == "open" and name not in OPENERS_OF_BYTES:
            modes = [node.value for given in call.args for node in ast.walk(given) if isinstance(node, ast.Constant)]
            assert modes and all("b" in str(mode) for mode in modes), f"line {call.lineno}"
        if last in TEXTS or name in TEXTS:
            assert keyword(call, "encoding") == "utf-8", f"line {call.lineno}"
        if re.fullmatch(r"subprocess\.\w+", name):
            assert not keyword(call, "text") and not keyword(call, "universal_newlines"), f"line {call.lineno}"


def test_pickle_is_named_in_one_place_alone():
    """The reader of CIFAR-10's batches, which refuses what these do not need."""
    assert [path.name for path in SOURCES if "pickle" in imported(path)] == ["cifar10_batch.py"]
    reader = SCRIPTS / "replication/downloads/cifar10_batch.py"
    used = [ast.unparse(node) for node in ast.walk(ast.parse(reader.read_text(encoding="utf-8")))]
    assert {text for text in used if text.startswith("pickle.")} == {"pickle.Unpickler", "pickle.UnpicklingError"} | {
        text for text in used if text.startswith("pickle.UnpicklingError(")
    }


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", ["pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"])
def test_the_rules_read_no_pickle(module):
    assert not [path.name for path in RULES if module in path.read_text(encoding="utf-8")]


def test_files_of_the_users_own_are_held_against_no_record():
    """What reads photographs, weights, code and claims can rename nothing."""
    for name in ("erf/models/images.py", "erf/models/factory.py", "erf/models/weights.py", "check_claims.py"):
        assert not {"checked", "set_aside"} & {called for called, _ in calls(SCRIPTS / name)}
    users = {path.name for path in SOURCES if "set_aside" in {called for called, _ in calls(path)}}
    assert users == {"files.py", "resume.py"}  # a training sets its own states aside


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path) -> Path:
    return tmp_path / "executed"


def test_no_reader_unpickles_what_it_is_given(canary, tmp_path):
    pickle.loads(pickle.dumps(Evil(canary)))  # our own: to see that it bites
    canary.unlink()
    np.savez(tmp_path / "evil.npz", count=np.array([Evil(canary)], object), allow_pickle=True)
    torch.save({"model": Evil(canary)}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"model": Evil(canary)}))
    for read in (
        lambda: read_arrays(tmp_path / "evil.npz", "count"),
        lambda: load_fields(tmp_path / "evil.npz"),
        lambda: load_state(tmp_path / "evil.pt", "model"),
        lambda: load_state(tmp_path / "bare.pt", "model"),
        lambda: load_weights(nn.Conv2d(1, 1, 1), tmp_path / "evil.pt", "a model"),
        lambda: load_weights(nn.Conv2d(1, 1, 1), tmp_path / "bare.pt", "a model"),
    ):
        with pytest.raises(InputError):
            read()
    assert not canary.exists()


def test_the_reader_of_batches_refuses_what_they_do_not_need(canary):
    images = np.zeros((2, 3, 32, 32), np.uint8)
    assert read_cifar10_batch(cifar_batch(images, [1, 2]))[1].tolist() == [1, 2]
    for evil in (Evil(canary), {"data": Evil(canary)}, {"data": np.array([Evil(canary)], object), "labels": []}):
        with pytest.raises(pickle.UnpicklingError, match="refused to load"):
            read_cifar10_batch(pickle.dumps(evil))
    for name in (b"builtins\neval", b"os\nsystem", b"numpy.core.multiarray\nscalar", b"numpy\nload"):
        with pytest.raises(pickle.UnpicklingError, match="refused to load"):
            read_cifar10_batch(b"c" + name + b"\n(S'touch " + str(canary).encode() + b"'\ntR.")
    assert not canary.exists()


def test_a_programs_settings_are_data(canary, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"a": f"$(touch {canary})"}))
    assert read_settings(str(path)) == {"a": f"$(touch {canary})"}
    for text in (f"__import__('pathlib').Path({str(canary)!r}).touch()", "[1]", ""):
        path.write_text(text)
        with pytest.raises(argparse.ArgumentTypeError, match=r"settings.json is no"):
            read_settings(str(path))
    with pytest.raises(argparse.ArgumentTypeError, match=r"none.json cannot be read"):
        read_settings(str(tmp_path / "none.json"))
    assert not canary.exists()
