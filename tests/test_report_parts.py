"""The report's parts without a browser: its tables, texts and pictures, and what is said of bad ones."""

import base64
import json
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

import replication_report
from conftest import ROOT, network_settings
from erf.errors import InputError
from erf.result.field import ReceptiveField
from erf.size import THRESHOLD, centre_impact
from erf.system.files import atomic
from replication.commands.provenance import recorded
from replication.drawing import report_explorer, report_tables
from replication.stacks.predictions import predicted_map, predicted_size


def test_times_are_added_up_by_rule(tmp_path):
    paths = []
    for number, (rule, seconds, memory) in enumerate(
        [
            ("measure_network", 30, 2048),
            ("measure_network", 90, 1024),
            ("figure_growth", 2, 100),
            ("train_classifier", 600, 512),
        ]
    ):
        paths.append(tmp_path / f"{number}.provenance.json")
        paths[-1].write_text(json.dumps({"script": f"{rule}.py", "seconds": seconds, "memory": memory}))
    assert [list(row.values()) for row in report_tables.cost_table(paths)] == [
        ["train_classifier", 1, "10.0 min", "10.0 min", "0.5"],
        ["measure_network", 2, "2.0 min", "1.5 min", "2.0"],
        ["figure_growth", 1, "2 s", "2 s", "0.1"],
        ["in all", 4, "12.0 min", "10.0 min", "2.0"],
    ]
    assert report_tables.cost_table([]) == []


def test_results_are_counted_by_what_made_them(tmp_path):
    for number, commit in enumerate(["abc", "def", "abc"]):
        with recorded("x.py", []), atomic(tmp_path / f"{number}.csv") as temporary:
            temporary.write_text("x")
        record = tmp_path / f"{number}.provenance.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "commit": commit}))
    (tmp_path / "old.csv").write_text("x")
    rows = report_tables.origins_table([*sorted(tmp_path.glob("?.csv")), tmp_path / "old.csv"])
    assert [(row["results"], row["commit"]) for row in rows] == [(2, "abc"), (1, "def"), (1, "not on record")]
    assert rows[0]["torch"] == version("torch") and rows[-1]["torch"] == "not on record"


def test_seeds_are_grouped_by_what_has_them():
    seeds = {"trainings": {"a": [0, 1], "b": [0, 1], "c": [2]}, "reach": {}}
    assert report_tables.grouped(seeds) == {"trainings, seeds 0, 1": "a, b", "trainings, seed 2": "c"}


def test_a_figure_is_made_smaller_and_its_size_told(tmp_path):
    path = tmp_path / "figure.png"
    Image.fromarray(np.random.default_rng(0).integers(255, size=(1000, 2800, 3), dtype=np.uint8)).save(path)
    found = replication_report.picture(path)
    assert (found["width"], found["height"]) == (700, 250)
    path.write_bytes(base64.b64decode(found["picture"].split(",")[1]))
    with Image.open(path) as shown:
        assert shown.size == (1400, 500)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a picture"):
        replication_report.picture(path)


def test_wrong_markup_in_a_text_is_said():
    assert "<em>one</em>" in replication_report.as_html("*one*")
    with pytest.raises(InputError, match="not reStructuredText"):
        replication_report.as_html("A ``literal without an end")
    with pytest.raises(InputError):
        replication_report.as_html(".. include:: /etc/passwd")  # a caption reads no files


def test_every_figure_has_a_caption_and_a_description_of_its_own():
    texts = ROOT / "workflow/report"
    figures = [path.stem.removeprefix("figure_") for path in (ROOT / "scripts").glob("figure_*.py")]
    found = [replication_report.captioned(texts / f"{figure}.rst") for figure in figures]
    assert all(len(one["alt"]) > 60 and "<p>" in one["caption"] and "alt" not in one["caption"] for one in found)
    assert len({one["alt"] for one in found}) == len(found) == 18


def field_of(impact: np.ndarray, **changes) -> ReceptiveField:
    settings = network_settings(depth=5, mode="abs", variant="abs", runs=20, **changes)
    middle = tuple((side - 1) / 2 for side in impact.shape)
    return ReceptiveField.from_runs(np.stack([impact, 0 * impact]), middle, impact.shape, settings)


def test_a_measured_map_survives_its_way_into_the_page():
    impact = predicted_map(network_settings(depth=5, mode="abs")) * 1e-12
    found = report_explorer.measured_map(field_of(impact))
    values = np.frombuffer(base64.b64decode(found["values"]), "<u2").reshape(found["height"], found["width"])
    np.testing.assert_allclose(values / 65535, impact / impact.max(), atol=1e-5)
    level = THRESHOLD * centre_impact(impact, (5, 5))
    assert np.sqrt((values > found["level"]).sum()) == pytest.approx(float(found["size"]), abs=0.3)  # one counts
    assert ((values > found["level"]) == (impact > level)).mean() > 0.99
    assert found["label"] == "random, 16 channels, 19 runs (1 more were dead)"


def test_the_largest_deviation_is_that_of_wide_networks():
    settings = network_settings(depth=5, mode="abs")
    fields = [field_of(predicted_map(settings)), field_of(predicted_map(settings) ** 4, width=1)]
    assert replication_report.largest_deviation(fields, 16) == "0.0"
    narrow = 100 * abs(fields[1].size / predicted_size(settings) - 1)
    assert replication_report.largest_deviation(fields, 1) == f"{narrow:.1f}"
    assert replication_report.largest_deviation([], 16) == "0.0"
