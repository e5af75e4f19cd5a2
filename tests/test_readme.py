"""The README and the pages under docs/ are those of figures/reference, and the commands those of the Makefile."""

import json
import re
import sys

import pandas as pd
import pytest
import torch
import yaml

import erf
from conftest import ROOT
from erf.models.torchvision_import import import_torchvision
from erf.size import THRESHOLD
from replication.claims.tables import verdict_of

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "figures/reference")]

import generate  # noqa: E402
import judge  # noqa: E402
import own_model  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Pages of prose. docs/results.md is generated; conventions, protocol, tiles and monitor have tests of their own.
OTHERS = ["choices", "development", "library", "performance", "pitfalls", "recovery", "slurm"]
PAGES = ["README.md", *(f"docs/{name}.md" for name in OTHERS)]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_what_is_generated_is_up_to_date():
    """`python figures/reference/judge.py && python docs/generate.py` changes nothing."""
    kept = json.loads((ROOT / "figures/reference/claims.json").read_text(encoding="utf-8"))
    pd.testing.assert_frame_equal(
        *(pd.DataFrame(claims).drop(columns=["parts", "region"]) for claims in (judge.judged(), kept)), rtol=1e-9
    )
    assert generate.results_page() == (ROOT / "docs/results.md").read_text(encoding="utf-8")
    for page, parts in generate.GENERATED.items():
        assert generate.filled(read(page), parts) == read(page), page


def test_readmes_example_prints_what_readme_says(tmp_path):
    assert own_model.run(tmp_path).strip() in README
    assert (tmp_path / "erf.png").exists()


def test_readme_is_short():
    assert len(README.split()) <= 1300


def test_a_finding_that_turns_around_turns_its_sentence(monkeypatch):
    """The prose says of each claim what its verdict says, and nothing else."""
    claims = generate.kept_claims()
    for claim in claims:
        assert verdict_of(claim) in generate.finding(claim)[:1000].lower(), claim["id"]
    turned = [claim | {"verdict": "not reproduced"} if claim["verdict"] == "reproduced" else claim for claim in claims]
    monkeypatch.setattr(generate, "kept_claims", lambda: turned)
    turned_readme = generate.filled(README, generate.GENERATED["README.md"])
    assert "*reproduced*" in README and "*reproduced*" not in turned_readme
    assert not re.search(r"\*Reproduced", generate.findings())


NAMES = [  # digits that are no measurements: names, years, definitions
    *("CIFAR-10", "ResNet-34", "NIPS 2016", "arXiv 1701.04128", "MD5", "CC BY-NC 4.0", "2009)", "2008)", "2017)"),
    *(
        "95 %",
        "Python 3.11, 3.12 or 3.13",
        "Python 3.11, 3.12 and 3.13",
        "mean 0, variance 1",
        "strength from 0 to 1",
        "±0.5",
    ),
    *("x86-64", "Python 3.14", "arm64", "larger than 1 means", "γ = 1", "γ = 0.2", "float64"),
]


def place_of_resnet18() -> str:
    """Where its middle unit looks, and where the middle of the image is."""
    side, resnet18 = 224, import_torchvision().models.resnet18(weights=None)
    theory = erf.theoretical_rf(resnet18, "layer4", input_shape=(3, side, side))
    place = theory.offset[0] + theory.stride[0] * (side // 32 // 2)
    return f"ResNet-18, on images of {side} pixels, looks at pixel {place:.0f}, and not at {side // 2}, the middle"


def test_what_the_readme_says_of_clamped_gradients():
    torch.manual_seed(0)
    model, images = import_torchvision().models.resnet18(weights=None), torch.randn(4, 3, 96, 96)
    clamped, whole = (erf.measure(model, images, "layer4", mode=mode).map.sum() for mode in ("positive", "abs"))
    assert 0.45 < clamped / whole < 0.55


def phrases() -> list[str]:
    """What the README says in numbers, from the configurations and the paper's values."""
    paper = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    told = {claim["id"]: claim["paper"] for claim in generate.CLAIMS}
    networks, defaults = paper["networks"], paper["network_defaults"]
    short = pd.read_csv(ROOT / "figures/reference/short/erf.csv")
    laptop = pd.read_csv(generate.LAPTOP / "erf.csv")
    fields = {name: laptop.loc[laptop["dataset"] == name, "theoretical_rf"].iloc[0] for name in ("cifar10", "camvid")}
    assert (short.loc[short["dataset"] == "camvid", "theoretical_rf"] == fields["camvid"]).all()
    *first, last = paper["slopes"]["depths"][0]
    carried = paper["trainings"]["camvid_matched_start"]["network"]["residual_scale"]
    return [
        place_of_resnet18(),
        f"more than {100 * THRESHOLD:.2f} % of the one at the unit's own position",
        f"networks are {', '.join(map(str, defaults['special_layers'][:-1]))} and {defaults['special_layers'][-1]} of "
        f"{networks['plain']['depths'][0]}",
        f"theoretical receptive field is {fields['cifar10']} pixels. The paper reports "
        f"{told['cifar10_field'].removesuffix(' px')}, which no stack of odd kernels of stride 1 has",
        f"the network's theoretical receptive field is {fields['camvid']} pixels, as the paper's. It has the blocks of "
        "ResNet-34 and a convolution of stride 2 in front",
        f"on every {2 ** len(paper['training_defaults']['camvid']['network']['blocks'])}th pixel",
        f"γ = {carried} was chosen to begin near the paper's "
        f"{told['camvid_before'].removeprefix('about ').removesuffix(' px')} pixels on CamVid",
        f"Over depths {first[0]} to {last} theory itself",
    ]


def prose(page: str) -> str:
    """A page without what is generated, code, tables and addresses."""
    text = read(page)
    for pattern in (
        r"<!-- \w+ -->.*?<!-- end -->",
        r"```.*?```",
        r"^\|.*?$",
        r"^\d\. ",
        r"`[^`]*`",
        r"\]\([^)]*\)",
    ):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    return " ".join(text.replace("[", " ").replace("*", "").split())


def test_every_number_in_prose_is_traced():
    """To a setting or the paper; what else has numbers is generated, and compared above."""
    text = " ".join(map(prose, PAGES))
    for phrase in phrases():
        assert phrase in text, phrase
        text = text.replace(phrase, " ")
    for name in NAMES:
        text = text.replace(name, " ")
    left = [text[max(0, found.start() - 40) : found.end() + 20] for found in re.finditer(r"\d+", text)]
    assert not left


@pytest.mark.parametrize(
    "page", [*PAGES, "docs/conventions.md", "docs/extend.md", "docs/monitor.md", "docs/results.md", "docs/tiles.md"]
)
def test_files_that_a_page_names_are_there(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target


def test_make_targets_that_the_pages_name_exist():
    makefile = read("Makefile")
    targets = {target for page in PAGES for target in re.findall(r"`make ([a-z][\w-]*)", read(page))}
    assert len(targets) >= 8
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
