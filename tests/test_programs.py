"""The programs of the rules: each is imported, and its help asked for, in a process of its own that has nothing of the
project but that program."""

import json
import subprocess
import sys

import pytest

from conftest import ROOT, SCRIPTS
from lib.place import Place

PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
# Libraries are imported once, and the process is forked for each program: to import torch takes seconds.
ASK = """
import contextlib, importlib, io, json, os, sys
import jinja2, matplotlib.pyplot, pandas, requests, scipy.ndimage, scipy.optimize, scipy.stats, seaborn, torch, yaml
os.chdir("/")
sys.path.insert(0, sys.argv[1])
answers = {}
for program in sys.argv[2:]:
    read, write = os.pipe()
    if not os.fork():
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            module = importlib.import_module(program)
            try:
                module.main(["--help"])
            except SystemExit as ended:
                status = ended.code
        files = [m.__file__ for m in sys.modules.values() if str(getattr(m, "__file__", "")).startswith(sys.argv[1])]
        with open(write, "w") as out:
            json.dump({"help": said.getvalue(), "status": status, "files": files}, out)
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        answers[program] = json.load(answer)
    os.wait()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def asked() -> dict[str, dict]:
    """What each program answers: its help, exit status, and the project's files that it has loaded."""
    command = [sys.executable, "-c", ASK, str(SCRIPTS), *PROGRAMS]
    return json.loads(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_alone_and_explains_itself(program, asked):
    answer = asked[program]
    assert answer["status"] == 0 and "--out" in answer["help"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rules_modules_are_those_that_its_program_loads(program, asked):
    told = {str((ROOT / path).resolve()) for path in Place(ROOT, "any").program(program)["modules"]}
    assert told == set(asked[program]["files"]) - {str(SCRIPTS / f"{program}.py")}
