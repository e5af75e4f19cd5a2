"""The same settings and seeds give the same bytes, whatever the order, the number of cores and the neighbours.

A part of the pipeline; `make check-reproducibility` compares all of a configuration.
"""

import random

from check_reproducibility import run_piecemeal
from conftest import Project
from erf.system.files import record_of
from repeatable import differences, digests


def test_order_cores_and_neighbours_change_nothing(project, finished_project, monkeypatch):
    monkeypatch.setenv("ERF_DATA_MIRROR", project.environment["ERF_DATA_MIRROR"])
    project.config["targets"] = ["convergence", "structures", "reach"]
    run_piecemeal(project.folder, project.write_config().name, random.Random(0))
    found, expected = digests(project.folder), digests(finished_project.folder)
    figures = [path for path in found if path.startswith("figures/")]
    assert len(figures) == 3 * 3 + 3 and len([path for path in found if path.endswith(".pt")]) == 6 * 4
    told = [line for line in differences(found, expected) if not line.endswith(": missing")]
    # What tells of all claims tells of the targets, too, and here there are but three.
    assert {line.split(":")[0].rpartition("/")[2].split(".")[0] for line in told} <= {"claims", "scorecard"}


def test_a_difference_is_found(finished_project, tmp_path):
    expected = digests(finished_project.folder)
    assert len(expected) > 100 and differences(expected, expected) == []
    changed = dict(expected)
    first, second, third = list(expected)[:3]
    changed[first] = "0" * 64
    del changed[second]
    changed["new.csv"] = expected[third]
    assert differences(changed, expected) == sorted(
        [f"{first}: differs", f"{second}: missing", "new.csv: not expected"], key=str
    )


def test_beside_every_result_lies_its_record(finished_project: Project):
    for name, digest in digests(finished_project.folder).items():
        path = finished_project.folder / name
        record, content = record_of(path)
        assert content["written"][path.name] == digest and record.name.endswith("provenance.json"), name
