"""The article: what it says of every claim, that it turns with the verdicts, and its bytes."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import article
from conftest import ROOT
from replication.claims.tables import read_checked, verdict_of

KEPT = ROOT / "figures/reference"
TEXTS = ROOT / "workflow/report/article"
CLAIMS = read_checked(KEPT / "claims.json")


def made(folder: Path) -> Path:
    """Path of the article that the program makes of what is kept."""
    out = folder / "article.pdf"
    given = {"kept": KEPT, "trainings": ROOT / "config/short.yaml", "citation": ROOT / "CITATION.cff"}
    given |= {"template": TEXTS / "article.typ", "out": out}
    assert article.main([word for name, path in given.items() for word in (f"--{name}", str(path))]) == 0
    return out


def squeezed(text: str) -> str:
    """A text without its spaces and hyphens: lines of a page break at both."""
    return re.sub(r"[\s-]", "", text.translate({ord("\N{RIGHT SINGLE QUOTATION MARK}"): "'"}))


def text_of(path: Path) -> str:
    """What a .pdf says, page by page, squeezed."""
    pypdf = pytest.importorskip("pypdf")
    return squeezed("".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(path.read_bytes())).pages))


@pytest.fixture(scope="module")
def typst():
    return pytest.importorskip("typst")


@pytest.fixture(scope="module")
def kept_article(typst, tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("article"))


def turned(monkeypatch, verdicts: dict[str, str]) -> None:
    """Let claims have other verdicts."""
    claims = [
        claim | {"verdict": verdicts[claim["id"]], "because": "", "otherwise": ""} if claim["id"] in verdicts else claim
        for claim in CLAIMS
    ]
    monkeypatch.setattr(article, "read_checked", lambda path: claims)


def test_every_claim_is_told_with_its_verdict(kept_article):
    text = text_of(kept_article)
    for claim in CLAIMS:
        one = article.entry(claim)
        entry = f"{claim['id']} {claim['statement']} ({claim['kind']}; the paper: {one['paper']}). {one['symbol']}"
        assert squeezed(f"{entry} {verdict_of(claim)}: {one['measured']}") in text, claim["id"]
        assert text.count(squeezed(claim["id"])) >= 2, claim["id"]  # in its topic's table, too
    assert squeezed(article.title_of(CLAIMS)) in text


def test_a_verdict_that_turns_around_turns_title_and_prose(typst, monkeypatch, tmp_path):
    failed, held = "camvid_growth", "camvid_growth_matched"
    statement = squeezed(f"{next(claim for claim in CLAIMS if claim['id'] == failed)['statement']} – ")
    for folder, verdicts, title in (
        ("as one", {failed: "reproduced", held: "reproduced"}, "[Re]"),
        ("apart", {failed: "not reproduced", held: "reproduced"}, "[¬Re]"),
    ):
        turned(monkeypatch, dict.fromkeys(article.failed_of(CLAIMS), "reproduced") | verdicts)
        path = made(tmp_path / folder)
        text, metadata = text_of(path), yaml.safe_load(path.with_name("metadata.yaml").read_text(encoding="utf-8"))
        assert metadata["title"].startswith(title) and text.startswith(squeezed(metadata["title"]))
        assert ("Sothestartdecidestheverdict" in text) == (folder == "apart")
        assert ("Noclaimofthepaperisnotreproduced" in text) == (folder == "as one")
        assert ("No claim of the paper is contradicted" in metadata["abstract"]) == (folder == "as one")
        assert statement + squeezed(verdicts[failed]) in text
        for verdict in {"reproduced", "not reproduced"} - {verdicts[failed]}:
            assert statement + squeezed(verdict) not in text


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_the_title_tells_of_the_papers_claims_alone(claim):
    others = [one | {"verdict": "undecided"} for one in CLAIMS if one is not claim]
    title = article.title_of([*others, claim | {"verdict": "not reproduced"}])
    assert title.startswith("[¬Re]" if claim["paper"] not in ("asked", "none") else "[Re]")
    assert article.title_of([*others, claim | {"verdict": "partly"}]).startswith("[Re]")


def test_what_is_quoted_from_memory_is_marked():
    marked = {claim["id"]: "†" in article.entry(claim)["paper"] for claim in CLAIMS}
    assert marked["camvid_after"] and marked["cifar10_field"] and marked["mean_gradient"]
    on_the_poster = {claim["id"] for claim in CLAIMS if "poster" in claim["source"]}
    assert all(marked[claim["id"]] or claim["id"] in on_the_poster for claim in CLAIMS if article.is_the_papers(claim))
    assert not marked["camvid_field"] and not marked["growth_slope"] and not marked["finite_depth_relu"]


def test_the_same_results_make_the_same_bytes(kept_article, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    again = made(tmp_path)
    for name in ("article.pdf", "metadata.yaml", "bibliography.bib"):
        assert again.with_name(name).read_bytes() == kept_article.with_name(name).read_bytes(), name


def test_text_of_claims_is_no_markup(typst, monkeypatch, tmp_path):
    evil = """#panic("x") *b* $y$ <script> "q" : - \\ {{ 1 }}\n\nb: c"""
    claims = [claim | dict.fromkeys(("statement", "paper", "note", "why", "unit"), evil) for claim in CLAIMS]
    monkeypatch.setattr(article, "read_checked", lambda path: claims)
    path = made(tmp_path)
    assert squeezed(evil) in text_of(path)
    abstract = yaml.safe_load(path.with_name("metadata.yaml").read_text(encoding="utf-8"))["abstract"]
    assert " ".join(evil.split()) in abstract or not article.failed_of(claims)


def test_metadata_has_rescience_cs_keys(tmp_path, monkeypatch):
    """Also where Typst is not installed: then the .pdf alone is left out."""
    monkeypatch.setattr(article, "find_spec", lambda name: None)
    path = made(tmp_path)
    assert not path.exists()
    found = yaml.safe_load(path.with_name("metadata.yaml").read_text(encoding="utf-8"))
    keys = "title authors affiliations keywords code data replication abstract bibliography type domain language review"
    assert {*keys.split(), "contributors", "dates", "article", "journal"} == found.keys()
    assert found["title"] == article.title_of(CLAIMS) and found["type"] == "Replication"
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["authors"]
    names = [one.get("name") or f"{one['given-names']} {one['family-names']}" for one in cited]
    assert [author["name"] for author in found["authors"]] == names
    assert path.with_name(found["bibliography"]).read_text(encoding="utf-8").count("@") >= 5


def test_one_line_says_that_the_pdf_is_skipped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(article, "find_spec", lambda name: None)
    path = made(tmp_path)
    assert capsys.readouterr().out == f"skipped: {path}: typst is not installed: pip install typst\n"


@pytest.mark.parametrize("installed", [True, False])
def test_the_rule_makes_what_can_be_made_in_any_folder(installed, tmp_path):
    """A folder beside the project; without Typst the job ends well, and says what it leaves out."""
    if installed:
        pytest.importorskip("typst")
    hide = "import importlib.util as util\nfound = util.find_spec\n"
    hide += "util.find_spec = lambda name, *rest: None if name == 'typst' else found(name, *rest)\n"
    (tmp_path / "sitecustomize.py").write_text("" if installed else hide, encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-s", str(ROOT / "Snakefile"), "article"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    out = tmp_path / "results/article"
    assert (out / "article.pdf").exists() == installed and (out / "metadata.yaml").exists()
    assert (out / "provenance.json").exists() and (tmp_path / "logs/article.log").exists()
    assert ("skipped: results/article/article.pdf: typst is not installed" in ended.stdout + ended.stderr) != installed


def test_a_folder_without_results_is_named(tmp_path, capsys):
    given = {"kept": tmp_path, "trainings": ROOT / "config/short.yaml", "citation": ROOT / "CITATION.cff"}
    given |= {"template": TEXTS / "article.typ", "out": tmp_path / "made/article.pdf"}
    assert article.main([word for name, path in given.items() for word in (f"--{name}", str(path))]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path}/claims.json")
    assert not (tmp_path / "made").exists()


POSTERS = [  # numbers in the template's prose: the poster's, the paper's†, definitions and names
    *("with 10 and with 40 layers", "lines of slope 0.56 and −0.43", "has 16 residual blocks", "505 × 505 pixels"),
    *("about 30 % faster", "3 × 3", "95 %", "γ = 1", "CIFAR-10", "ResNet-34", "CC BY-NC 4.0", "reviews of 2016"),
]


def test_no_measurement_is_typed():
    """What is left of the template's prose without code, names and the poster's numbers has no digits."""
    prose = (TEXTS / "article.typ").read_text(encoding="utf-8").split("\n= Introduction\n", 1)[1]
    prose = re.sub(r"\$[^$]*\$|`[^`]*`|@\w+|//.*|\d+(\.\d+)?(pt|em|cm|fr|%)|luma\(\d+\)|\"[^\"]*\"", " ", prose)
    prose = re.sub(r"#[\w.-]+(\([^()]*\))?(\.\w+(\([^()]*\))?)*|update\(0\)|slice\(1\)|len\(\) > 0", " ", prose)
    prose = " ".join(prose.split())
    for number in POSTERS:
        assert number in prose, number
        prose = prose.replace(number, " ")
    left = [prose[max(0, found.start() - 40) : found.end() + 20] for found in re.finditer(r"\d", prose)]
    assert not left


def test_no_number_is_typed_in_the_abstract():
    """But for the paper's year."""
    abstract = (
        (TEXTS / "metadata.yaml.jinja").read_text(encoding="utf-8").split("\nabstract:")[1].split("\nbibliography:")[0]
    )
    assert re.findall(r"\d+", re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", abstract, flags=re.DOTALL)) == ["2016"]


def test_no_verdict_is_typed():
    """Behind the definitions of the verdicts only code names one."""
    prose = (TEXTS / "article.typ").read_text(encoding="utf-8").split("\n== Time and machine\n", 1)[1]
    for verdict in article.VERDICTS:
        assert not re.search(rf"\b{verdict}\b", prose), verdict


def test_every_source_is_in_the_bibliography():
    cited = set(re.findall(r"@([a-z]+\d{4})\b", (TEXTS / "article.typ").read_text(encoding="utf-8")))
    known = set(re.findall(r"@\w+\{(\w+),", (TEXTS / "bibliography.bib").read_text(encoding="utf-8")))
    assert cited == known


def test_captions_keep_their_marks():
    found = article.caption(ROOT / "workflow/report/convolution.rst")
    assert found["alt"].startswith("four panels") or found["alt"]
    kinds = {run["kind"]: run["text"] for run in found["caption"]}
    assert kinds["superscript"] == "jωt" and kinds["literal"] == "without_factor"
    assert "alt:" not in json.dumps(found["caption"])
