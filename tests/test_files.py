"""Files that are whole or not there: what a kill leaves, what a record tells, and what a damaged file brings about."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import SCRIPTS, heed_ctrl_c
from erf.errors import InputError
from erf.result.field import load_fields
from erf.system.files import atomic, checked, digest, journal, read_arrays, record_paths
from replication.commands import cli
from replication.commands.provenance import recorded

WRITER = """
import sys, time
from erf.system.files import atomic
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
    with recorded("measure_network.py", ["--seed", "7"]):
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
    with (
        journal(),  # as a command of the pipeline has one
        pytest.raises(
            InputError, match=r"x\.csv: damaged, or changed since it was made; it is x\.csv\.damaged now: run"
        ),
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


def test_outside_of_the_pipeline_nothing_is_renamed(tmp_path):
    make(tmp_path, "x.csv")
    (tmp_path / "x.csv").write_text("x\n1\n")
    with pytest.raises(InputError, match=r"x\.csv: damaged, or changed since it was made; delete it and make it anew$"):
        cli.read_table(tmp_path / "x.csv", "x")
    assert names(tmp_path) == ["x.csv", "x.provenance.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"script": "make_tables.py"},
        {"script": "../scripts/measure_network.py"},
        {"script": "/etc/passwd"},
        {"script": ["measure_network.py"]},
        {"script": None},
    ],
    ids=str,
)
def test_what_another_program_recorded_is_never_renamed(tmp_path, changes):
    make(tmp_path, "x.csv")
    record = json.loads((tmp_path / "x.provenance.json").read_text())
    (tmp_path / "x.provenance.json").write_text(json.dumps(record | changes))
    (tmp_path / "x.csv").write_text("x\n1\n")
    with journal(), pytest.raises(InputError, match="delete it and make it anew"):
        checked(tmp_path / "x.csv")
    assert names(tmp_path) == ["x.csv", "x.provenance.json"]


@pytest.mark.parametrize("name", ["x.py", "x.jpg", "x.pth", "x.csv.gz", "x"])
def test_what_the_project_does_not_make_is_never_renamed(tmp_path, name):
    make(tmp_path, "x.csv")
    record = json.loads((tmp_path / "x.provenance.json").read_text())
    (tmp_path / "provenance.json").write_text(json.dumps(record | {"written": {name: "0" * 64}}))
    (tmp_path / name).write_text("mine")
    with journal(), pytest.raises(InputError, match="delete it and make it anew"):
        checked(tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        '{"written": {"x.csv": "0"}}',
        '{"script": "measure_network.py", "written": {"x.csv": "0"}}',
        '{"written": ["x.csv"]}',
        '{"written": "x.csv"}',
        '["x.csv"]',
        "3",
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_foreign_record_is_neither_believed_nor_removed(tmp_path, text):
    record = tmp_path / "provenance.json"
    record.write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "x.csv").write_text("x\n1\n")
    with journal():
        assert checked(tmp_path / "x.csv") == tmp_path / "x.csv"
    cli.write_table(pd.DataFrame({"x": [1]}), tmp_path / "x.csv")
    assert record.read_bytes() == text.encode(errors="surrogateescape")


def test_only_what_is_read_and_written_meanwhile_is_in_the_journal(tmp_path):
    make(tmp_path, "before.csv")
    with journal() as files:
        make(tmp_path, "inner.csv")  # a command called by a command has a journal of its own
        cli.read_table(tmp_path / "before.csv", "x")
    assert list(files.read) == [str(tmp_path / "before.csv")] and files.written == []
    assert record_paths(tmp_path / "a.b.csv") == (tmp_path / "a.b.provenance.json", tmp_path / "provenance.json")


# Archives that ask for more memory than they account for.


def archive(path: Path, members: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


def npy(shape: tuple, descr: str, data: bytes = b"", version: tuple = (1, 0)) -> bytes:
    """An array in a file, as its header describes it, whatever its data are."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(header)) + header + data


def bomb(path: Path, megabytes: int, checksum: int = 0) -> None:
    """A .npz with an honest header, whose one array is nothing but zeros: what zipfile would write in minutes."""
    header, name, full = npy((megabytes * 2**20,), "|u1"), b"a.npy", zlib.Z_FULL_FLUSH
    packer = zlib.compressobj(9, wbits=-15)
    stream = packer.compress(header) + packer.flush(full)
    stream += (packer.compress(bytes(2**20)) + packer.flush(full)) * megabytes + packer.flush()
    large = struct.pack("<HHQQ", 1, 16, len(header) + megabytes * 2**20, len(stream))  # both sizes, of 64 bits
    fields = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, checksum, 2**32 - 1, 2**32 - 1, len(name), len(large))
    local = b"PK\3\4" + fields + name + large + stream
    central = b"PK\1\2" + struct.pack("<H", 45) + fields + bytes(14) + name + large
    path.write_bytes(local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0))


READER = r"""
import re, resource, sys
from pathlib import Path
from erf.result.field import load_fields
from erf.system.files import read_arrays
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)
try:
    load_fields(sys.argv[1]) if sys.argv[2] == "fields" else read_arrays(sys.argv[1], "a")
except ValueError as error:
    # Not ru_maxrss, which counts the process that started this one.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
    print(type(error).__name__, error, peak, sep="|")
"""


def refused(path: Path, what: str = "a") -> str:
    """The line in which a file is refused, in a process that may not take much memory, and has not taken it."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READER, str(path), what]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    kind, line, megabytes = result.stdout.strip().split("|")
    assert kind == "InputError" and int(megabytes) < 500, result
    return line


def test_a_number_of_fields_that_a_file_does_not_hold_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    for count in (10**9, 2**63 - 1, -1, -(10**9), 1, 3.0, [1], "1", True):
        np.savez_compressed(path, count=np.array(count))
        assert path.stat().st_size < 400
        line = refused(path, "fields") if count == 10**9 else ""
        with pytest.raises(InputError, match=r"x\.npz: damaged, or something else"):
            load_fields(path)
        assert count != 10**9 or line.startswith(f"{path}: damaged, or something else (count is not what a measurement")
    np.savez_compressed(path, count=np.array(0))
    assert load_fields(path) == []


def test_an_archive_of_zeros_is_refused_before_it_is_unpacked(tmp_path):
    bomb(tmp_path / "small.npz", 20, zlib.crc32(npy((20 * 2**20,), "|u1") + bytes(20 * 2**20)))
    assert read_arrays(tmp_path / "small.npz", "a")["a"].nbytes == 20 * 2**20  # so that the large one is good, too
    bomb(tmp_path / "large.npz", 12_000)
    assert (tmp_path / "large.npz").stat().st_size < 13 * 2**20
    assert "bytes when unpacked, where" in refused(tmp_path / "large.npz")


@pytest.mark.parametrize(
    "content",
    [
        npy((10**12,), "<f8"),
        npy((10**6, 10**6), "<f8", bytes(8)),
        npy((2,), "<f8", bytes(8)),
        npy((2,), "<f8", bytes(24)),
        npy((-1, -1), "<f8", bytes(8)),
        npy((-1,), "<f8", bytes(8)),
        npy((0, -(10**12)), "<f8"),
        npy((10**11,), "<U0"),
        npy((10**11,), "|V0"),
        npy((1,), "<U1000000000"),
        npy((1,), "|O", bytes(8)),
        npy((1,), "<f8", bytes(8), version=(2, 0)),
        npy((1,), "<f8", bytes(8))[:20],
        b"",
        b"\x93NUMPY\x01\x00\xff\xff",
    ],
    ids=lambda content: repr(content[:100])[10:],
)
def test_an_array_that_is_not_as_large_as_its_header_says_is_refused(tmp_path, content):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive(tmp_path / "x.npz", {"a.npy": content}, compression)
        with limited_memory(), pytest.raises(InputError, match=r"x\.npz: damaged, or something else"):
            read_arrays(tmp_path / "x.npz", "a")


@contextlib.contextmanager
def limited_memory():
    """What is taken meanwhile stays below 100 MiB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_what_numpy_writes_is_read(tmp_path):
    arrays = {
        "floats": np.random.default_rng(0).random((3, 4)),
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "number": np.array(3),
        "words": np.array(["a", "bcd"]),
        "none": np.empty((0, 5)),
        "bools": np.array([True, False]),
        "swapped": np.arange(3, dtype=">i4"),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = read_arrays(tmp_path / "x.npz")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        assert read_arrays(tmp_path / "x.npz", "words", "number").keys() == {"words", "number"}


@given(data=st.data())
def test_whatever_header_an_array_has_it_takes_no_more_than_the_file_accounts_for(tmp_path_factory, data):
    shape = tuple(data.draw(st.lists(st.integers(-3, 2**40) | st.integers(0, 3), max_size=4)))
    descr = data.draw(st.sampled_from(["<f8", "<i8", "|u1", "<U3", "<U0", "|S0", "|V0", "|b1", ">f4", "<M8[s]"]))
    content = bytes(data.draw(st.integers(0, 64)))
    path = tmp_path_factory.mktemp("x") / "x.npz"
    archive(path, {"a.npy": npy(shape, descr, content)})
    with limited_memory(), contextlib.suppress(InputError):
        assert read_arrays(path, "a")["a"].nbytes == len(content)


STOPPED = """
import sys, time
from pathlib import Path
from replication.commands.cli import command
from erf.system.files import atomic
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
