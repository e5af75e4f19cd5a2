"""The report's parts without a browser: its tables, texts and pictures, and what is said of bad ones."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import replication_report
from conftest import ROOT, network_settings, settings_file
from erf.errors import InputError
from erf.result.field import ReceptiveField
from erf.size import THRESHOLD, centre_impact
from erf.system.files import atomic, digest
from replication.claims.tables import strip_of
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
    with pytest.raises(InputError):
        replication_report.as_html(".. raw:: html\n\n   <script>alert(1)</script>")
    for text in ("`here <javascript:alert(1)>`_", ".. image:: javascript:alert(1)", ".. image:: /etc/passwd"):
        with pytest.raises(InputError, match="only https:// links"):
            replication_report.as_html(text)


MARKUP = ["a_", "|x|", "`a <b>`_", "*", "**", "\\", "see https://a.bc", "a::\n\n  b", "half-open; 4.55 %"]


@pytest.mark.parametrize("value", MARKUP)
def test_a_value_in_a_text_is_no_markup(value):
    body = replication_report.as_html(f"It is **{replication_report.as_words(value)}**.")
    read = Reader(body)
    assert [name for name, _ in read.tags] == ["p", "strong"]
    assert read.text.split() == f"It is {value}.".split()


def test_every_figure_has_a_caption_and_a_description_of_its_own():
    texts = ROOT / "workflow/report"
    figures = [path.stem.removeprefix("figure_") for path in (ROOT / "scripts").glob("figure_*.py")]
    found = [replication_report.captioned(texts / f"{figure}.rst") for figure in figures]
    assert all(len(one["alt"]) > 60 and "<p>" in one["caption"] and "alt" not in one["caption"] for one in found)
    assert len({one["alt"] for one in found}) == len(found) == 19


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


def test_a_strip_shows_a_measurement_where_it_lies_beside_what_is_accepted():
    claims = json.loads((ROOT / "figures/reference/claims.json").read_text())
    measured = [claim for claim in claims if claim["verdict"] != "not run"]
    assert len(measured) > 30
    for claim in measured:
        strip, (low, high) = strip_of(claim), claim["region"]
        left, right = strip["accepted"]
        known = [part for part in claim["parts"] if part["value"] is not None]
        for part, shown in zip(known, strip["parts"], strict=True):
            assert (shown["value"] < left) == (low is not None and part["value"] < low)
            assert (shown["value"] > right) == (high is not None and part["value"] > high)
            assert (shown["low"] is None) == (part["low"] is None)
            assert all(0 <= shown[name] <= 1 for name in ("value", "low", "high") if shown[name] is not None)
    widest = strip_of({"region": [2, None], "verdict": "partly", "parts": [part | {"value": 1, "low": 0, "high": 4}]})
    ends = [widest["accepted"][0], *(widest["parts"][0][name] for name in ("low", "value", "high"))]
    assert ends == pytest.approx([(x + 0.6) / 5.2 for x in (2, 0, 1, 4)]) and widest["accepted"][1] == 1


def test_the_largest_deviation_is_that_of_wide_networks():
    settings = network_settings(depth=5, mode="abs")
    fields = [field_of(predicted_map(settings)), field_of(predicted_map(settings) ** 4, width=1)]
    assert replication_report.largest_deviation(fields, 16) == "0.0"
    narrow = 100 * abs(fields[1].size / predicted_size(settings) - 1)
    assert replication_report.largest_deviation(fields, 1) == f"{narrow:.1f}"
    assert replication_report.largest_deviation([], 16) == "0.0"


# What claims, names, settings and records say is text in the page, whatever it is.

HOSTILE = """</script><script>alert(1)</script><!--<script>"'><img src=x onerror=alert(1)> {{ 7 * 7 }} **_`|&lt;"""
PLAIN = "some plain word"


class Reader(HTMLParser):
    """A page as read: `tags` with the names of their attributes, the values of these, the text, the scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text, self.attributes, self.scripts = [], "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, [name for name, _ in attrs]))
        self.attributes += [value or "" for _, value in attrs]
        self.scripts += [""] * (tag == "script")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


def page_saying(word: str, folder: Path) -> Path:
    """A report in which every text from elsewhere is this word: claims, names, settings, results, records."""
    name = word.replace("/", "")  # for files and folders
    texts = shutil.copytree(ROOT / "workflow/report", folder / "report")
    (texts / "growth.rst").write_text(f".. alt: {word}\n\n{replication_report.as_words(word)}\n")

    claims = json.loads((ROOT / "figures/reference/claims.json").read_text())[:3]
    for number, claim in enumerate(claims):
        words = ("id", "topic", "statement", "paper", "source", "unit", "part", "because", "note", "reason", "command")
        claim |= dict.fromkeys(words, word) | {"id": f"{word}{number}", "kind": "empirical"}
        claim["parts"] = [part | {"label": word, "verdict": word} for part in claim["parts"]]
    claims[0] |= {"kind": word, "figure": "growth"}
    claims[1] |= {"verdict": "not reproduced"}
    (folder / "claims.json").write_text(json.dumps(claims))

    network = {"width": 8, "residual_scale": word}
    training = {"dataset": "camvid", "network": network, "recipe": {"epochs": 1}, "seeds": [word]}
    facts = {"name": word, "command": f"{word} {{figure}}", "width": word, "special_layers": [word, word]}
    facts |= {"figures": [{"name": "growth", "title": word, "part": word}], "seeds": {word: {word: [word]}}}
    facts |= {"trainings": {word: training}}
    facts |= {"datasets": {"camvid": {"members": {word: word}, "sha256": word}}, "configuration": {word: [word]}}

    Image.new("RGB", (300, 200)).save(folder / "growth.png")
    record = {"script": word, "seconds": 1, "memory": 1, "arguments": [word], "finished": word, "read": {}}
    record |= dict.fromkeys(report_tables.ORIGIN, word) | {"written": {"growth.png": word}}
    (folder / "growth.provenance.json").write_text(json.dumps(record))
    record["written"]["growth.png"] = digest(folder / "growth.png")  # as a result that is as it was made
    (folder / "growth.provenance.json").write_text(json.dumps(record))

    sizes, run = folder / f"erf/{name}/seed_0.csv", folder / f"trainings/{name}/seed_0"
    sizes.parent.mkdir(parents=True)
    run.mkdir(parents=True)
    size = {"dataset": "camvid", "residual_scale": 1, "centre_light": 0, "seed": 0, "epoch": 1, "size": 9}
    pd.DataFrame([size | {"diameter": 10, "snapshot": at} for at in ("epoch_000", "best")]).to_csv(sizes, index=False)
    pd.DataFrame([{"test_accuracy": 0.5, "best_epoch": word}]).to_csv(run / "test.csv", index=False)
    speed = {"seconds": 1, "images_per_second": 1, "share_of_bf16_peak": 0.1, "device": word, "threads": 1}
    pd.DataFrame([speed]).to_csv(run / "speed.csv", index=False)

    impact = predicted_map(network_settings(depth=5, mode="abs"))
    field_of(impact, activation=word).save(folder / "field.npz")

    arguments = ["--claims", folder / "claims.json", "--settings", settings_file(facts)]
    arguments += ["--pictures", folder / "growth.png", "--fields", folder / "field.npz", "--sizes", sizes]
    arguments += ["--scores", run / "test.csv"]
    arguments += ["--speed", run / "speed.csv", "--records", folder / "growth.provenance.json"]
    arguments += ["--template", texts / "index.html.jinja", "--out", folder / "index.html"]
    assert not replication_report.main([str(argument) for argument in arguments])
    return folder / "index.html"


@pytest.fixture
def provenance_saying(monkeypatch):
    """Have the machine and the versions be called so."""
    return lambda word: monkeypatch.setattr(replication_report, "provenance", lambda folder: {word: word})


def test_no_text_from_elsewhere_becomes_a_tag_an_attribute_or_a_script(tmp_path, provenance_saying):
    """A page of hostile words is that of plain ones, tag by tag; and what it shows is the hostile words themselves."""
    read = {}
    for word in (PLAIN, HOSTILE):
        provenance_saying(word)
        folder = tmp_path / str(len(read))
        folder.mkdir()
        read[word] = Reader(page_saying(word, folder).read_text())
    plain, hostile = read.values()
    assert hostile.tags == plain.tags and ("img", ["src", "width", "height", "alt"]) in plain.tags
    assert hostile.scripts[1] == plain.scripts[1] == (ROOT / "workflow/report/explorer.js").read_text()
    (shown,) = json.loads(hostile.scripts[0])["measured"]
    assert shown["label"].startswith(f"random + {HOSTILE}")

    def bare(text: str) -> str:
        """Without what is written otherwise in the name of a file or a class, or in JSON."""
        return re.sub(r"""[\s/\\"-]""", "", text)

    assert plain.text.count(PLAIN) > 40 and sum(PLAIN in value for value in plain.attributes) >= 7
    for before, after in zip([plain.text, *plain.attributes], [hostile.text, *hostile.attributes], strict=True):
        assert bare(after) == bare(before).replace(bare(PLAIN), bare(HOSTILE))
