"""The README and the pages under docs/ are those of figures/reference, and the commands those of the Makefile."""

import json
import re
import sys

import pandas as pd
import torch
import yaml

import erf
from conftest import ROOT
from erf.models.torchvision_import import import_torchvision
from replication.claims.tables import verdict_of
from replication.datasets.camvid import CAMVID

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "figures/reference")]

import generate  # noqa: E402
import judge  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_is_generated_is_up_to_date():
    """`python figures/reference/judge.py && python docs/generate.py` changes nothing."""
    kept = json.loads((ROOT / "figures/reference/claims.json").read_text(encoding="utf-8"))
    pd.testing.assert_frame_equal(
        *(pd.DataFrame(claims).drop(columns=["parts", "region"]) for claims in (judge.judged(), kept)), rtol=1e-9
    )
    assert generate.results_page() == (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert generate.filled(README, generate.IN_README) == README
    conventions = (ROOT / "docs/conventions.md").read_text(encoding="utf-8")
    assert generate.filled(conventions, generate.IN_CONVENTIONS) == conventions


def test_a_finding_that_turns_around_turns_its_sentence(monkeypatch):
    """The prose says of each claim what its verdict says, and nothing else."""
    claims = generate.kept_claims()
    for claim in claims:
        assert verdict_of(claim) in generate.finding(claim)[:1000].lower(), claim["id"]
    turned = [claim | {"verdict": "not reproduced"} if claim["verdict"] == "reproduced" else claim for claim in claims]
    monkeypatch.setattr(generate, "kept_claims", lambda: turned)
    assert "reproduced" in generate.summary() and generate.filled(README, generate.IN_README) != README
    assert not re.search(r"\*Reproduced", generate.findings())


NAMES = [  # digits that are no measurements: names, years, definitions
    *("CIFAR-10", "ResNet-34", "NIPS 2016", "arXiv 1701.04128", "MD5", "CC BY-NC 4.0", "(2009)", "(2008)", "(2017)"),
    *("95 %", "Python 3.11, 3.12 or 3.13", "mean 0, variance 1", "strength from 0 to 1", "±0.5"),
    *("x86-64", "Python 3.14", "torch 2.13, nor of 2.6"),
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
        f"(SegNet's version, of {CAMVID.task.classes} classes)",
        place_of_resnet18(),
        f"networks are {', '.join(map(str, defaults['special_layers'][:-1]))} and {defaults['special_layers'][-1]} of "
        f"{networks['plain']['depths'][0]}",
        f"theoretical receptive field is {fields['cifar10']} pixels. The paper reports "
        f"{told['cifar10_field'].removesuffix(' px')}, which no stack of odd kernels of stride 1 has",
        f"The CamVid network's is {fields['camvid']}, as the paper's, with the blocks of ResNet-34 "
        "and a convolution of stride 2 in front",
        f"on every {2 ** len(paper['training_defaults']['camvid']['network']['blocks'])}th pixel",
        f"γ = {carried} was chosen to begin near the paper's "
        f"{told['camvid_before'].removeprefix('about ').removesuffix(' px')} pixels on CamVid",
        f"over depths {first[0]} to {last} theory itself",
    ]


def test_every_number_in_the_readme_is_traced():
    """In prose, to a setting or the paper; what else has numbers is generated, and compared above."""
    text = README
    for pattern in (
        r"<!-- (?:verdicts|bench) -->.*?<!-- end -->",
        r"```.*?```",
        r"^\|.*?$",
        r"`[^`]*`",
        r"\]\([^)]*\)",
    ):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.replace("[", " ").split())
    for phrase in phrases():
        assert phrase in text, phrase
        text = text.replace(phrase, " ")
    for name in NAMES:
        text = text.replace(name, " ")
    left = [text[max(0, found.start() - 40) : found.end() + 20] for found in re.finditer(r"\d+", text)]
    assert not left


def test_files_that_the_readme_names_are_there():
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(targets) >= 5
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_readmes_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
