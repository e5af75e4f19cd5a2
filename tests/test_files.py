"""Files that are whole or not there: what a kill leaves, what a record tells, and what a damaged file brings about."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from conftest import SCRIPTS, heed_ctrl_c
from erf.errors import InputError
from erf.files import atomic, checked, digest, journal, read_arrays, record_paths
from erf.provenance import recorded

WRITER = """
import sys, time
from erf.files import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def a_writer(path: Path):
    """Another process, in the middle of writing to `path`."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["table.csv", "a[b]*?.csv", "none"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, name):
    with a_writer(tmp_path / name):
        pass
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".")
    with atomic(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "whole"


def test_what_another_process_is_writing_is_left_to_it(tmp_path):
    with a_writer(tmp_path / "table.csv"):
        with atomic(tmp_path / "table.csv") as temporary:
            temporary.write_text("whole")
        assert len(names(tmp_path)) == 2


def test_what_is_no_leftover_of_the_file_stays(tmp_path):
    others = [".tables.abcdefgh.csv", ".table.abcdefgh.txt", ".table.abcdefghi.csv", "table.abcdefgh.csv", ".table.csv"]
    for name in others:
        (tmp_path / name).write_text("another's")
    with atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == sorted([*others, "table.csv"])


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "table.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert names(tmp_path) == ["table.csv"] and (tmp_path / "table.csv").read_text() == "before"


def make(folder: Path, *tables: str) -> None:
    """Write tables as a command does, with their record."""
    with recorded("make_tables.py", ["--seed", "7"]):
        for name in tables:
            cli.write_table(pd.DataFrame({"x": [0.1, 0.2]}), folder / name)


def test_a_record_tells_what_made_a_result(tmp_path):
    make(tmp_path, "first.csv")
    with recorded("second.py", ["--out", "second.npz"]):
        cli.read_table(tmp_path / "first.csv", "x")
        for name in ("second.npz", "second.csv"):
            with atomic(tmp_path / name) as temporary:
                temporary.write_text(name)
    record = json.loads((tmp_path / "second.provenance.json").read_text())
    assert (record["script"], record["arguments"]) == ("second.py", ["--out", "second.npz"])
    assert record["read"] == {str(tmp_path / "first.csv"): digest(tmp_path / "first.csv")}
    assert record["written"] == {name: digest(tmp_path / name) for name in ("second.csv", "second.npz")}
    assert {"commit", "processor", "Python", "torch", "finished", "seconds"} <= record.keys()


def test_files_of_several_stems_have_the_record_of_their_folder(tmp_path):
    make(tmp_path, "metrics.csv", "test.csv")
    assert names(tmp_path) == ["metrics.csv", "provenance.json", "test.csv"]
    assert json.loads((tmp_path / "provenance.json").read_text())["written"].keys() == {"metrics.csv", "test.csv"}


def test_a_command_that_fails_leaves_no_record(tmp_path):
    with pytest.raises(ZeroDivisionError), recorded("x.py", []):
        cli.write_table(pd.DataFrame({"x": [1]}), tmp_path / "x.csv")
        1 / 0  # noqa: B018
    assert names(tmp_path) == ["x.csv"]


def test_the_record_of_a_file_that_is_replaced_goes(tmp_path):
    make(tmp_path, "x.csv")
    make(tmp_path, "y.csv")
    (tmp_path / "provenance.json").write_text('{"written": "somebody else\'s"}')
    cli.write_table(pd.DataFrame({"x": [1]}), tmp_path / "x.csv")
    assert names(tmp_path) == ["provenance.json", "x.csv", "y.csv", "y.provenance.json"]
    assert checked(tmp_path / "x.csv")


@given(place=st.integers(min_value=0), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_table_is_set_aside_and_never_read(tmp_path_factory, place, bit, cut):
    folder = tmp_path_factory.mktemp("results")
    make(folder, "x.csv")
    path = folder / "x.csv"
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"x\.csv: damaged, or changed since it was made; it is x\.csv\.damaged now: run"
    ):
        cli.read_table(path, "x")
    assert names(folder) == ["x.csv.damaged", "x.provenance.json"]
    make(folder, "x.csv")
    assert cli.read_table(path, "x")["x"].tolist() == [0.1, 0.2]


def test_a_file_without_a_record_is_taken_as_it_is_and_never_moved(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, a=np.arange(3))
    path.with_name("mine.provenance.json").write_text("not even JSON")
    assert read_arrays(path, "a")["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged, or something else"):
        read_arrays(path, "a")
    assert path.exists()


def test_only_what_is_read_and_written_meanwhile_is_in_the_journal(tmp_path):
    make(tmp_path, "before.csv")
    with journal() as files:
        make(tmp_path, "inner.csv")  # a command called by a command has a journal of its own
        cli.read_table(tmp_path / "before.csv", "x")
    assert list(files.read) == [str(tmp_path / "before.csv")] and files.written == []
    assert record_paths(tmp_path / "a.b.csv") == (tmp_path / "a.b.provenance.json", tmp_path / "provenance.json")


STOPPED = """
import sys, time
from pathlib import Path
from cli import command
from erf.files import atomic
@command
def main(argv=None):
    with atomic("x.csv") as temporary:
        print("writing", flush=True)
        time.sleep(60)
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_in_one_line_with_nothing_half_written(tmp_path, number):
    (tmp_path / "stopped.py").write_text(STOPPED)
    process = subprocess.Popen(
        [sys.executable, "stopped.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error == f"error: stopped by {number.name}\n"
    assert names(tmp_path) == ["stopped.py"]
