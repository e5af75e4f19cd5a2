"""The replication report and Snakemake's own, opened in a real browser; the explorer held against erf.theory."""

import base64
import html
import json
import re
import shutil
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import replication_report
from conftest import ROOT
from erf import theory
from erf.size import THRESHOLD
from lib.figures import FIGURES
from replication.stacks import predictions
from replication.stacks import structures as stacks
from test_report_parts import HOSTILE, PLAIN, page_saying


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium, without a window and without a network."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no browser: chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    for argument in [*arguments, "--force-color-profile=srgb"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def page(finished_project) -> Path:
    return finished_project.folder / "results/small/report/index.html"


@pytest.fixture
def opened(browser, page):
    """The report in a wide, light window; afterwards nothing must have been complained of."""
    show(browser, page)
    yield browser
    assert browser.get_log("browser") == []


def show(browser, path: Path, width: int = 1280, scheme: str = "light", mobile: bool = False) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get(path.as_uri())


def test_every_figure_is_there_and_visible(opened, finished_project):
    targets = {path.stem for path in (finished_project.folder / "figures/small").glob("*.png")} - {"scorecard"}
    assert len(targets) == 17
    shown = opened.execute_script(
        "return [...document.querySelectorAll('main > section img')].map(image => {"
        " image.scrollIntoView(); const box = image.getBoundingClientRect();"
        " return [image.closest('figure').id, image.complete, image.naturalWidth,"
        " box.width, box.height, image.checkVisibility(), image.alt, image.closest('figure').innerText] })"
    )
    assert {row[0].removeprefix("figure-") for row in shown} == targets and len(shown) == len(targets)
    for name, complete, natural, width, height, visible, alt, caption in shown:
        assert complete and visible and natural >= 800 and width >= 600 and height >= 200, name
        assert len(alt) > 40 and len(caption) > 100
        assert f"figures/small/{name.removeprefix('figure-')}.png" in caption  # its command


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:|https://arxiv\.org)[^"']*""", text)
    assert "@import" not in text and "url(" not in text
    assert len(text) < 20 * 2**20


def test_no_script_runs_but_the_pages_own(browser, page, tmp_path):
    """Were a text ever to come into it unescaped, the browser would still be told not to run it."""
    injected = "<script>document.title = 'injected'</script><img src=x onerror=\"document.title = 'injected'\">"
    (tmp_path / "page.html").write_text(page.read_text().replace("<h1>", f"{injected}<h1>"))
    show(browser, tmp_path / "page.html")
    assert browser.execute_script("return document.images[0].complete && document.scripts.length") == 3
    assert browser.title == "The effective receptive field, replicated"
    assert float(browser.find_element("id", "size").text) > 1
    assert "Content Security Policy" in str(browser.get_log("browser"))


def test_a_browser_sees_no_tag_in_a_text(browser, tmp_path, monkeypatch):
    """The words of test_report_parts.py, by the parser that counts."""
    tags = []
    for number, word in enumerate((PLAIN, HOSTILE)):
        monkeypatch.setattr(replication_report, "provenance", lambda folder, word=word: {word: word})
        (tmp_path / str(number)).mkdir()
        show(browser, page_saying(word, tmp_path / str(number)))
        found = "return [...document.querySelectorAll('*')].map(one => [one.localName, ...one.getAttributeNames()])"
        tags.append(browser.execute_script(found))
        move_to(browser, {**SETTINGS[0], "depth": 5, "weights": "random"})
        assert browser.find_element("css selector", "#measured figcaption").text.startswith(f"random + {word}")
        assert browser.get_log("browser") == []
    assert tags[0] == tags[1]


def test_the_page_is_accessible_in_its_structure(opened):
    assert opened.execute_script("return document.documentElement.lang") == "en"
    ids = opened.execute_script("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    for anchor in opened.execute_script("return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash)"):
        assert anchor[1:] in ids
    levels = opened.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert not opened.execute_script(
        "return [...document.querySelectorAll('input, select')].filter(one => !one.labels.length).map(one => one.id)"
    )
    assert not opened.execute_script("return [...document.querySelectorAll('img')].filter(one => !one.alt).length")
    assert opened.execute_script("return document.getAnimations().length") == 0  # nothing moves by itself
    assert opened.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_keys_alone_reach_and_open_everything(opened):
    """The first is the way past the contents; every stop is in sight and has an outline; a claim opens by a key."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    stops = []
    while len(stops) < 400:
        ActionChains(opened).send_keys(Keys.TAB).perform()
        stop = opened.execute_script(
            "const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one);"
            "const seen = box.width > 0 && box.left >= 0 && box.right <= innerWidth + 1 && box.bottom > 0;"
            "const name = one.hash || one.id || one.innerText;"
            "return one === document.body ? null : [one.tagName, name, seen, style.outlineStyle]"
        )
        if stop is None:
            break
        stops.append(stop)
    assert stops[0][:2] == ["A", "#content"]
    assert [stop for stop in stops if not stop[2] or stop[3] == "none"] == []
    assert {"#figures", "#claims", "depth", "kernel", "structure"} <= {stop[1] for stop in stops}
    claims = opened.find_elements("css selector", ".claims summary")
    assert len([stop for stop in stops if stop[0] == "SUMMARY"]) == len(claims) + 2
    claims[0].send_keys(Keys.ENTER)
    assert opened.find_element("css selector", ".claims .reason").is_displayed()


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(browser, page, scheme):
    show(browser, page, scheme=scheme)
    open_all(browser)
    texts = browser.execute_script(
        "const behind = one => { while (/, 0\\)/.test(getComputedStyle(one).backgroundColor)) one = one.parentElement;"
        " return getComputedStyle(one).backgroundColor };"
        "return [...document.querySelectorAll('main *, nav *, body')].filter(one => one.checkVisibility())"
        ".map(one => [one.localName, getComputedStyle(one).color, behind(one)])"
    )
    assert len(texts) > 1000 and {"code", "pre", "select", "input", "summary"} <= {text[0] for text in texts}
    for name, colour, paper in set(map(tuple, texts)):
        assert name == "img" or (luminance(paper) > 0.5) == (scheme == "light"), (name, paper)  # no white boxes
        low, high = sorted([luminance(paper), luminance(colour)])
        assert name == "img" or (high + 0.05) / (low + 0.05) >= 4.5, (name, colour, paper)  # WCAG 2.1, AA
    dimmed = browser.execute_script("return getComputedStyle(document.querySelector('figure img')).filter")
    assert (dimmed == "none") == (scheme == "light")
    assert browser.get_log("browser") == []


def open_all(browser) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.mark.parametrize("width", [360, 400, 800, 1023, 1025, 1400])
def test_at_no_width_is_anything_cut_off(browser, page, width):
    """Neither at first nor with every claim open; the contents alone, and a figure once it is enlarged, scroll."""
    show(browser, page, width=width, mobile=width < 500)
    open_all(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    beyond = browser.execute_script(
        "const cut = one => { const box = one.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth ||"
        " (one.matches('td, th, dd, p, summary') && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0) };"
        "return [...document.querySelectorAll('main *')].filter(one => one.checkVisibility() && one.id !== 'status')"
        ".filter(cut).map(one => one.outerHTML)"
    )
    assert beyond == []
    smallest = browser.execute_script(
        "const sizes = [...document.querySelectorAll('main *')].map(one => parseFloat(getComputedStyle(one).fontSize));"
        "return Math.min(...sizes)"
    )
    assert smallest >= 10  # an exponent's
    enlarge = browser.find_element("css selector", ".enlarge input")
    assert enlarge.is_displayed() == (width <= 768)
    if enlarge.is_displayed():
        image = browser.find_element("css selector", ".picture img")
        assert image.rect["width"] <= width
        enlarge.click()
        assert image.rect["width"] >= 700
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_the_contents_stay_and_lead_to_what_they_say(browser, page, width):
    show(browser, page, width=width, mobile=width < 500)
    for name in ("provenance", "claims", "figures"):
        browser.find_element("css selector", f"nav a[href='#{name}']").click()
        top, bar = browser.execute_script(
            "const box = document.querySelector('nav').getBoundingClientRect();"
            f"const title = document.querySelector('#{name} h2').getBoundingClientRect();"
            "return [title.top, [box.top, box.bottom, box.left, box.right]]"
        )
        assert bar[0] == 0 and bar[1] <= 900 and bar[3] > bar[2] >= 0
        assert 0 <= top < 300 and (top >= bar[1] or width == 1400)  # not under the bar


def test_figures_come_early_and_claims_once_with_their_reasons_folded(opened, finished_project):
    order = opened.execute_script("return [...document.querySelectorAll('main > section')].map(one => one.id)")
    assert order[:4] == ["scope", "figures", "claims", "explorer"]
    assert opened.execute_script("return document.querySelector('#figures h2').getBoundingClientRect().top") < 900
    claims = json.loads((finished_project.folder / "results/small/claims.json").read_text())
    listed = [one.text for one in opened.find_elements("css selector", "summary") if one.text != ""]
    assert Counter(listed[1:-1]) == Counter(claim["statement"] for claim in claims)
    linked = [one.text for one in opened.find_elements("css selector", "header a")]
    assert linked == [claim["statement"] for claim in claims if claim["verdict"] == "not reproduced"]
    assert not [one for one in opened.find_elements("css selector", ".reason") if one.is_displayed()]


def test_the_page_prints(opened):
    printed = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    assert 6 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 60


# The numbers.


def test_the_table_of_claims_is_that_of_the_results(opened, finished_project):
    from replication.drawing.labels import with_interval

    claims = json.loads((finished_project.folder / "results/small/claims.json").read_text())
    table = pd.read_csv(finished_project.folder / "results/small/claims.csv").set_index("id")
    assert len(claims) >= 16
    open_all(opened)
    for claim in claims:
        row = opened.find_element("id", f"claim-{claim['id']}")
        cells = [cell.text for cell in row.find_elements("css selector", "th, td")]
        assert claim["statement"] in cells[0] and cells[1] == claim["paper"] and claim["verdict"] in cells[4]
        known = table.loc[claim["id"]]
        assert claim["verdict"] == known["verdict"] and known["reason"] in cells[0] and known["command"] in cells[0]
        drawn = row.find_elements("css selector", ".strip circle")
        assert len(drawn) == sum(part["value"] is not None for part in claim["parts"])
        if claim["measured"] is None:
            assert cells[2] == "" and np.isnan(known["measured"])
        else:
            assert claim["measured"] == pytest.approx(known["measured"])
            shown = with_interval(*known[["measured", "low", "high"]].astype(float), claim["digits"])
            part = f"\n{claim['part']}" if len(claim["parts"]) > 1 else ""
            assert cells[2] == f"{shown} {claim['unit']}".strip() + part
    headers = opened.find_elements("css selector", ".counts")
    for kind, header in zip(("empirical", "theory", "identity"), headers, strict=True):
        own = Counter(claim["verdict"] for claim in claims if claim["kind"] == kind)
        assert (
            Counter({name: int(count) for name, count in re.findall(r"([a-z][a-z ]+[a-z]) (\d+)", header.text)}) == own
        )


DEFINITIONS = {"95", "10"}  # the level of all intervals, and the power of ten in arXiv's and units' names


def test_no_number_is_typed_into_a_text_of_the_report():
    """Texts have numbers only where they are filled in; names (CIFAR-10, ResNet-34, R²) and the paper's year apart."""
    names = r"CIFAR-10|ResNet-34|NIPS 2016|arXiv 1701\.04128|1701\.04128|95 % intervals?|95 % bootstrap|\[95 %\]|bf16"
    for path in sorted((ROOT / "workflow/report").glob("*.rst*")):
        text = re.sub(r"\{[{%].*?[}%]\}", "", path.read_text(), flags=re.DOTALL)
        assert not re.findall(r"\d+", re.sub(names, "", text)), path.name
    template = (ROOT / "workflow/report/index.html.jinja").read_text()
    text = re.sub(r"\{[{%].*?[}%]\}|<style>.*?</style>|<[^>]*>", "", template, flags=re.DOTALL)
    assert not re.findall(r"\d+", re.sub(names, "", text))


def numbers_in(value) -> set[str]:
    """Every number in results or settings, in any of the roundings in which one may be printed."""
    if isinstance(value, dict):
        return set().union(*(numbers_in(inner) for item in value.items() for inner in item))
    if isinstance(value, list):
        return set().union(*map(numbers_in, value)) if value else set()
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, (int, float)):
        return {f"{scale * abs(value):.{digits}f}" for scale in (1, 100) for digits in range(7)} | {f"{abs(value):g}"}
    return set(re.findall(r"\d+(?:\.\d+)?", str(value)))


def test_every_number_in_the_report_is_in_a_result_or_a_setting(finished_project, page):
    """All of the page's text but its explorer and its configuration; times and versions are those of files, too."""
    folder = finished_project.folder
    text = re.sub(r"<style>.*?</style>|<script.*?</script>|<pre>.*?</pre>", "", page.read_text(), flags=re.DOTALL)
    body, _ = text.split('<section id="provenance">')
    for own_test in (r'<section id="explorer">.*?</section>', r"<h3>Trainings</h3>.*?</table>"):
        body, count = re.subn(own_test, "", body, flags=re.DOTALL)
        assert count == 1
    body = html.unescape(re.sub(r"<[^>]*>", " ", body[: body.index('<section id="cost">')]))
    claims = json.loads((folder / "results/small/claims.json").read_text())
    networks = pd.concat(pd.read_csv(path) for path in (folder / "results/small/networks").glob("*.csv"))
    wide = networks.query("variant == 'abs' and width == 4 and reading == 'before'")
    deviation = 100 * (wide["size"] / wide["theory_size"] - 1).abs().max()
    full = {**finished_project.config, "name": "small"}
    defaults = {"width": 4, "special_layers": [4, 8, 12], "threshold": THRESHOLD, "seeds": 3}  # settings of this run
    kinds = Counter(claim["kind"] for claim in claims)
    verdicts = Counter((claim["kind"], claim["verdict"]) for claim in claims)
    counts = [deviation, *kinds.values(), *verdicts.values()]
    known = numbers_in([claims, full["training_defaults"], defaults, counts]) | DEFINITIONS
    known |= {"2016", "1701.04128", "34"}  # the paper and a network by their names
    unknown = [number for number in re.findall(r"\d+(?:\.\d+)?", body) if number not in known]
    assert not unknown


def section(page: Path, name: str) -> str:
    (found,) = re.findall(rf'<section id="{name}">.*?</section>', page.read_text(), flags=re.DOTALL)
    return found


def test_the_table_of_trainings_is_that_of_the_results(finished_project, page):
    results = finished_project.folder / "results/small"
    rows = re.findall(r"<th scope=\"row\"[^>]*>(\w+)</th>(.*?)</tr>", section(page, "figures"))
    assert len(rows) == len({path.parent.name for path in results.glob("erf/*/*.csv")}) == 5
    for training, cells in rows:
        seeds, score, before, after, best = re.findall(r">([^<]*)</td>", cells)
        sizes = pd.concat(pd.read_csv(path) for path in results.glob(f"erf/{training}/*.csv"))
        tests = pd.concat(pd.read_csv(path) for path in results.glob(f"trainings/{training}/*/test.csv"))
        assert int(seeds) == len(tests) == (2 if training.startswith("camvid") else 1)
        kind = "mean_iou" if training.startswith("camvid") else "accuracy"
        assert score == f"{kind.replace('_iou', ' IoU').replace('_', ' ')} {100 * tests[f'test_{kind}'].mean():.1f} %"
        for shown, snapshot in ((before, "epoch_000"), (after, "best")):
            assert shown == f"{sizes.loc[sizes['snapshot'] == snapshot, 'diameter'].mean():.1f}"
        assert best == ", ".join(map(str, sorted(set(tests["best_epoch"]))))


def test_the_times_are_those_of_the_records(finished_project, page):
    cost, folders = section(page, "cost"), ("results/small", "figures/small")
    paths = [path for name in folders for path in (finished_project.folder / name).rglob("*provenance.json")]
    times = pd.DataFrame([json.loads(path.read_text()) for path in paths])
    times_table, speed_table = re.findall(r"<tbody.*?</tbody>", cost, flags=re.DOTALL)
    rows = re.findall(r"<th scope=\"row\"[^>]*>(\w+)</th>(.*?)</tr>", times_table)
    assert {f"{rule}.py" for rule, _ in rows} == {*times["script"]} - {"replication_report.py"}
    for rule, cells in rows:
        own = times[times["script"] == f"{rule}.py"]
        count, total, longest, _ = re.findall(r">([^<]*)</td>", cells)
        assert int(count) == len(own)
        for text, seconds in ((total, own["seconds"].sum()), (longest, own["seconds"].max())):
            value, unit = text.split()
            assert float(value) == pytest.approx(
                seconds / {"s": 1, "min": 60}[unit], abs=0.51 if unit == "s" else 0.051
            )
    speeds = [pd.read_csv(path) for path in finished_project.folder.glob("results/small/trainings/camvid/*/speed.csv")]
    (shown,) = re.findall(r">camvid</th>.*?</td>.*?>([\d.]+)</td>", speed_table)
    assert shown == f"{np.mean([speed['seconds'].sum() for speed in speeds]) / 60:.1f}"


def test_provenance_names_the_datasets_and_the_commit(finished_project, page):
    provenance = section(page, "provenance")
    for name, digest in finished_project.config["datasets"]["cifar10"]["members"].items():
        assert name in provenance and digest in provenance
    for dataset in finished_project.config["datasets"].values():
        assert dataset["sha256"] in provenance
    assert "no git repository" in provenance  # the copy under test is none
    assert "not on record" not in provenance


# The explorer.


def theory_of(settings: dict) -> list:
    """The same network for erf.theory. The library's structures have strides and dilations of 2; here they vary."""
    structure, special = settings["structure"], settings["special"]
    layers = stacks.structure(structure, settings["depth"], settings["kernel"], tuple(special), 0.5)
    changed, order = [], 0
    for layer in layers:
        if isinstance(layer, stacks.Conv) and layer.stride == 2:
            layer = stacks.Conv(layer.kernel, settings["stride"])
        if isinstance(layer, stacks.Conv) and layer.dilation > 1:
            order += 1
            layer = stacks.Conv(layer.kernel, 1, settings["dilation"] ** order)
        if isinstance(layer, stacks.AveragePool):
            layer = stacks.AveragePool(settings["stride"])
        changed.append(layer)
    return stacks.theory_stack(changed, settings["weights"])


def move_to(browser, settings: dict) -> None:
    """Set the controls as a person does, by keys and clicks."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def element(name):
        return browser.find_element("id", name)

    for name in ("kernel", "weights", "structure"):
        Select(element(name)).select_by_value(str(settings[name]))
    for name in ("depth", "stride", "dilation"):
        if element(name).is_displayed():
            first = int(element(name).get_attribute("min"))
            element(name).send_keys(Keys.HOME, Keys.ARROW_RIGHT * (settings[name] - first))
    if element("special").is_displayed():
        element("special").send_keys(Keys.CONTROL + "a")
        element("special").send_keys(Keys.BACKSPACE, ", ".join(map(str, settings["special"])))


SETTINGS = [
    {"structure": structure, "depth": depth, "kernel": kernel, "weights": weights, "special": special}
    | {"stride": stride, "dilation": dilation}
    for structure, depth, kernel, weights, special, stride, dilation in [
        ("plain", 1, 3, "uniform", [], 2, 2),
        ("plain", 5, 3, "random", [], 2, 2),
        ("plain", 20, 3, "uniform", [], 2, 2),
        ("plain", 40, 3, "random", [], 2, 2),
        ("plain", 12, 5, "uniform", [], 2, 2),
        ("plain", 7, 11, "random", [], 2, 2),
        ("dropout", 15, 3, "random", [], 2, 2),
        ("dropout", 9, 7, "uniform", [], 2, 2),
        ("subsample", 15, 3, "random", [4, 8, 12], 2, 2),
        ("subsample", 15, 3, "uniform", [1, 2, 3], 2, 2),
        ("subsample", 10, 5, "random", [3], 4, 2),
        ("subsample", 12, 3, "uniform", [2, 9], 3, 2),
        ("subsample", 8, 3, "random", [4], 1, 2),
        ("average_pool", 15, 3, "random", [4, 8, 12], 2, 2),
        ("average_pool", 10, 3, "uniform", [5], 3, 2),
        ("average_pool", 6, 7, "random", [2, 4], 2, 2),
        ("dilation", 15, 3, "random", [4, 8, 12], 2, 2),
        ("dilation", 15, 3, "uniform", [13, 14, 15], 2, 2),
        ("dilation", 10, 3, "random", [2, 5], 2, 4),
        ("dilation", 11, 5, "uniform", [1, 6], 2, 3),
        ("dilation", 4, 3, "random", [2], 2, 1),
        ("skip", 3, 3, "random", [], 2, 2),
        ("skip", 15, 3, "uniform", [], 2, 2),
        ("skip", 16, 3, "random", [], 2, 2),
        ("skip", 40, 5, "random", [], 2, 2),
    ]
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_explorer_moved_by_keys_and_clicks_has_the_theorys_numbers(browser, page, settings):
    if not browser.current_url.startswith("file"):
        show(browser, page)
    move_to(browser, settings)
    assert browser.find_element("id", "problem").text == ""
    shown = {
        name: float(browser.find_element("id", name).get_attribute("data-value"))
        for name in ("sigma", "size", "side", "ratio")
    }
    stack, weights = theory_of(settings), settings["weights"]
    (side, _) = theory.stack_rf(stack)
    size = theory.expected_size(stack, weights)
    assert shown["side"] == side
    assert shown["size"] == pytest.approx(size, rel=1e-12)
    assert shown["ratio"] == pytest.approx(size / side, rel=1e-12)
    assert shown["sigma"] == pytest.approx(theory.expected_sigma(stack, weights)[0], rel=1e-9)
    assert browser.find_element("id", "size").text == f"{size:.2f}"
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("event", ["input", "change"])
def test_the_explorer_follows_either_event_alone(opened, event):
    """Some browsers tell of a list's new choice, and form fillers of any control's, by `change` alone."""
    before = opened.find_element("id", "size").text
    for name, value in (("kernel", "7"), ("depth", "9")):
        opened.execute_script(
            "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            name,
            value,
            event,
        )
        after = opened.find_element("id", "size").text
        assert after != before
        before = after
    shown = {**SETTINGS[1], "kernel": 7, "depth": 9}
    assert before == f"{theory.expected_size(theory_of(shown), 'random'):.2f}"


@st.composite
def networks(draw) -> dict:
    structure = draw(st.sampled_from(stacks.STRUCTURES))
    depth = draw(st.integers(3, 14))
    special = draw(st.lists(st.integers(1, depth), max_size=2, unique=True).map(sorted))
    numbers = {"stride": draw(st.integers(1, 3)), "dilation": draw(st.integers(1, 3))}
    special = special if structure in stacks.WITH_SPECIAL_LAYERS else []
    weights, kernel = draw(st.sampled_from(["uniform", "random"])), draw(st.sampled_from([3, 5]))
    return {"structure": structure, "depth": depth, "kernel": kernel, "weights": weights, "special": special} | numbers


def test_the_explorers_maps_are_the_theorys(browser, page):
    show(browser, page)

    @hypothesis_settings(max_examples=60, database=None, derandomize=True)
    @given(networks())
    def equal(settings):
        found = browser.execute_script("return [...ERF.mapOf(arguments[0]).map]", settings)
        expected = theory.expected_map(theory_of(settings), settings["weights"])
        found = np.reshape(found, expected.shape)
        np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-9)

    equal()


def test_the_explorer_says_what_it_cannot_do_and_shows_nothing_then(opened):
    from selenium.webdriver.common.keys import Keys

    def text(name):
        return opened.find_element("id", name).text

    move_to(opened, SETTINGS[8])
    size = text("size")
    special = opened.find_element("id", "special")
    special.send_keys(", 16")
    assert text("problem") == "There is no layer 16 in 15, which is ignored."
    assert text("size") == size
    special.send_keys(Keys.BACKSPACE, Keys.BACKSPACE, "<b>")
    assert text("problem") == "<b> is no layer: write numbers and commas, such as 4, 8, 12."
    assert special.get_attribute("aria-invalid") == "true"
    assert [text(name) for name in ("sigma", "size", "side", "ratio", "measured")] == ["–"] * 4 + [""]
    move_to(opened, {**SETTINGS[8], "kernel": 11, "stride": 4})
    assert "are not drawn" in text("problem") and text("size") == "–"
    move_to(opened, SETTINGS[0] | {"structure": "skip"})
    assert text("problem") == "Skip connections need at least three layers."
    move_to(opened, SETTINGS[1])
    assert text("problem") == "" and float(text("size")) > 5


def test_measured_maps_stand_beside_the_theory_of_the_same_settings(opened, finished_project):
    from erf.result.field import load_fields

    move_to(opened, {**SETTINGS[0], "depth": 10, "weights": "random"})
    captions = [one.text for one in opened.find_elements("css selector", "#measured figcaption")]
    fields = load_fields(finished_project.folder / "results/small/networks/random.npz")
    field = next(f for f in fields if (f.settings["depth"], f.settings["variant"]) == (10, "abs"))
    assert any(f"ERF {field.size:.1f} px" in caption and "random, 4 channels" in caption for caption in captions)
    assert any("random + ReLU" in caption for caption in captions)
    assert f"(fitted to theory: {np.mean(predictions.predicted_fit(field.settings).sigma):.2f} px)" in captions[0]
    drawn = opened.execute_script(
        "return [...document.querySelectorAll('#measured canvas')].map(canvas => {"
        " const copy = document.createElement('canvas'); copy.width = copy.height = 320;"
        " const context = copy.getContext('2d', {willReadFrequently: true}); context.drawImage(canvas, 0, 0);"
        " return [160, 3].map(at => context.getImageData(at, at, 1, 1).data.slice(0, 3).reduce((a, b) => a + b)) })"
    )
    assert len(drawn) == len(captions) and all(middle > 1.5 * corner for middle, corner in drawn)
    move_to(opened, {**SETTINGS[0], "depth": 11, "weights": "random"})
    found = opened.find_element("id", "measured").text
    assert found.startswith("No network with these settings was measured here.") and "5, 6, 10, 12 layers" in found
    # A stride of 1 is no stride: the stack is a plain one.
    move_to(opened, {**SETTINGS[8], "depth": 10, "stride": 1})
    assert [one.text for one in opened.find_elements("css selector", "#measured figcaption")] == captions


def test_the_map_is_drawn(opened):
    """Bright in its middle, dark in its corners, and another one for other settings."""

    def pixels():
        return opened.execute_script(
            "const drawn = document.getElementById('map'), copy = document.createElement('canvas');"
            "[copy.width, copy.height] = [drawn.width, drawn.height];"
            "const context = copy.getContext('2d', {willReadFrequently: true});"
            "context.drawImage(drawn, 0, 0);"
            "const at = (x, y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];"
            "return [at(320, 320), at(3, 3), drawn.toDataURL()]"
        )

    move_to(opened, SETTINGS[2])
    middle, corner, first = pixels()
    assert sum(middle) > 2 * sum(corner)
    move_to(opened, SETTINGS[16])
    assert pixels()[2] != first


# Snakemake's own report.


@pytest.fixture(scope="session")
def snakemake_report(finished_project, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report")
    result = finished_project.snakemake("all", "--report", str(path / "report.zip"))
    assert result.returncode == 0, result.stdout
    with zipfile.ZipFile(path / "report.zip") as archive:
        archive.extractall(path)
    (found,) = path.rglob("report.html")
    return found


def appears(browser, script: str):
    """What the script returns, as soon as it returns something: the page draws itself after each click."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(f"return {script}"))


def click_on(browser, selector: str, number: int = 0, text: str = "") -> None:
    found = (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".filter(one => !{json.dumps(text)} || one.innerText.trim() === {json.dumps(text)})[{number}]"
    )
    appears(browser, f"Boolean({found})")
    browser.execute_script(f"{found}.click()")


def test_snakemakes_report_shows_every_figure_with_its_caption(browser, snakemake_report, finished_project):
    """Every category is opened, and in it every result shown, and its caption read."""
    shown = [path.stem for path in (finished_project.folder / "figures/small").glob("*.png")]
    parts = Counter(FIGURES[name].part for name in shown if name in FIGURES)
    categories = {**parts, "Verdicts": 3}
    seen = {}
    for category, count in categories.items():
        for number in range(count):
            show(browser, snakemake_report, width=1400)
            assert appears(browser, "document.body.innerText.includes('under Verdicts')")
            click_on(browser, "a", text=category)
            assert appears(browser, "document.querySelectorAll('tr a[iconname=eye]').length") == count
            label = browser.execute_script(
                "return document.querySelectorAll('td:first-child')[arguments[0]].innerText", number
            )
            click_on(browser, "tr a[iconname=information-circle]", number)
            name = appears(browser, "document.body.innerText.match(/(\\w+)\\.(?:png|csv|html)/)?.[1]")
            caption = " ".join(browser.execute_script("return document.body.innerText").split())
            text = {"index": "report"}.get(name, name)
            source = re.sub(r"^\.\. alt:.*\n", "", (ROOT / f"workflow/report/{text}.rst").read_text())
            words = re.sub(r"[*`]", "", source).split()
            assert " ".join(words[:12]) in caption, name
            seen[name] = label
            if name not in ("claims", "index"):
                click_on(browser, "a[iconname=eye]")
                size = appears(browser, "[...document.querySelectorAll('img[src$=\".png\"]')][0]?.naturalWidth")
                assert size >= 1000
            errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
            assert errors == []  # a warning of Snakemake's own style sheet is there
    figures = {path.stem for path in (finished_project.folder / "figures/small").glob("*.png")}
    assert seen.keys() == figures | {"claims", "index"}
    assert len(set(seen.values())) == len(seen) and seen["growth"] == "Growth and shrinkage with depth"
