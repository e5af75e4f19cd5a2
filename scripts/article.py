"""The article of the replication, in ReScience C's structure: article.pdf, metadata.yaml and bibliography.bib.

Its text is workflow/report/article/; every measurement in it is of the results that are kept in figures/reference. The
.pdf is set by Typst; where that is not installed, the other two are made alone. Takes seconds.
"""

import argparse
import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml
from docutils import nodes
from docutils.core import publish_doctree

from erf.errors import InputError
from erf.size import THRESHOLD
from erf.system.files import atomic, checked, noted
from replication.claims.kept_tables import growth_table, slope_table
from replication.claims.tables import (
    capital,
    counts_by_kind,
    counts_in_words,
    is_the_papers,
    ours,
    part_of,
    read_checked,
    verdict_of,
)
from replication.claims.verdicts import NOT_COMPARABLE, NOT_REPRODUCED, NOT_RUN, VERDICTS
from replication.commands.cli import command, new_parser, read_table
from replication.datasets.table import DATASETS
from replication.drawing.labels import ENOUGH_SEEDS
from replication.drawing.plots import VERDICT_STYLES

TITLE = "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks"
FIGURES = ("convolution", "gaussian_shape", "nonlinearity", "structures", "growth", "before_after", "initialization")
BEYOND = ("slope_pair", "reviewers", "evolution", "convergence")
FOLDERS = ("", "short", "laptop")  # of a kept figure, the best first
TABLES = {"growth": slope_table, "before_after": growth_table}
EARLIER = "from before the protocol"  # in the notes of claims that figures/reference/judge.py judges on laptop/
RARE = 0.93  # a 95 % interval that holds the truth in fewer experiments is too narrow
SYMBOLS = dict(zip(VERDICTS, "●◆◇×■–", strict=True))


def failed_of(claims: list[dict]) -> list[str]:
    """Names of the paper's claims that are not reproduced."""
    return [claim["id"] for claim in claims if is_the_papers(claim) and claim["verdict"] == NOT_REPRODUCED]


def title_of(claims: list[dict]) -> str:
    """[¬Re] before the paper's title if one of its claims is not reproduced, and [Re] if none is."""
    return f"[{'¬' if failed_of(claims) else ''}Re] {TITLE}"


def entry(claim: dict) -> dict:
    """A claim as the article prints it; † where its paper's value is known from memory alone."""
    told = {
        name: claim[name] for name in ("statement", "kind", "topic", "figure", "accepted", "why", "against", "note")
    }
    parts = "; ".join(part_of(claim, part) for part in claim["parts"])
    return told | {
        "paper": claim["paper"] + ("†" if is_the_papers(claim) and "reported" in claim["source"] else ""),
        "ours": ours(claim),
        "part": claim["part"] if len(claim["parts"]) > 1 else "",
        "verdict": claim["verdict"],
        "told": verdict_of(claim),
        "colour": VERDICT_STYLES[claim["verdict"]][0],
        "symbol": SYMBOLS[claim["verdict"]],
        "measured": parts or claim["reason"],
        "obstacle": f"{capital(claim['reason'])}." if claim["parts"] and claim["verdict"] == NOT_COMPARABLE else "",
    }


def count_table(claims: list[dict]) -> dict:
    """How many claims of each kind have each verdict: a heading and rows."""
    counts = counts_by_kind(claims)
    rows = [
        [kind, *(str(own.get(verdict, "")) for verdict in VERDICTS), str(sum(own.values()))]
        for kind, own in counts.items()
    ]
    return {"header": ["kind", *VERDICTS, "in all"], "rows": rows}


def kept_figure(kept: Path, name: str) -> Path:
    """Path of the best of the kept figures of a name."""
    for folder in FOLDERS:
        if (path := kept / folder / f"{name}.png").exists():
            return checked(path)
    raise InputError(f"{kept}: has no {name}.png: gather.py keeps a run's figures there")


def caption(path: Path) -> dict:
    """A figure's caption as runs of text, each with its kind, and what its first comment says for the blind."""
    runs, alt = [], ""
    for node in publish_doctree(path.read_text(encoding="utf-8"), settings_overrides={"report_level": 5}).findall():
        if isinstance(node, nodes.comment):
            alt = node.astext().removeprefix("alt: ")
        elif isinstance(node, nodes.Text) and not isinstance(node.parent, nodes.comment):
            runs.append({"kind": node.parent.tagname, "text": node.astext().replace("\n", " ")})
    return {"alt": alt, "caption": runs}


def series(values: list) -> str:
    """ "5, 10 and 20"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def facts(kept: Path, recipes: dict) -> dict:
    """What the article says of the networks, the trainings and the time, from the kept tables.

    recipes : of the trainings by dataset, as `training_defaults` of config/short.yaml has them
    """
    found = read_table(kept / "networks.csv").query("variant == 'abs'")
    wide = found[(found["width"] == found["width"].max()) & (found["reading"] == "before")]
    plain, structures = (wide[wide["network"] == name] for name in ("random", "dilation"))
    coverage, origins = (read_table(kept / f"{name}.csv") for name in ("interval_coverage", "provenance"))
    sizes, speed, later = (read_table(kept / f"short/{name}.csv") for name in ("erf", "speed", "provenance"))
    lowest, trained = coverage.loc[coverage["coverage"].idxmin()], trainings(sizes, recipes)
    return {
        "date": max([*origins["finished"], *later["finished"]])[:10],
        "threshold": f"{100 * THRESHOLD:.2f}",
        "width": f"{plain['width'].iloc[0]}",
        "depths": series(sorted(plain["depth"])),
        "runs": f"{wide['runs'].min()} to {wide['runs'].max()}",
        "special": series(json.loads(structures["special_layers"].iloc[0])),
        "structure_depth": f"{structures['depth'].iloc[0]}",
        "deviation": f"{100 * np.nanmax((wide['size'] / wide['theory_size'] - 1).abs()):.1f}",
        "untrained_minutes": f"{origins['seconds'].sum() / 60:.0f}",
        "training_hours": f"{speed['seconds'].sum() / 3600:.1f}",
        "processor": f"{origins['processor'].iloc[0]}, {origins['cores'].iloc[0]} cores",
        "intervals": len(coverage),
        "too_narrow": int((coverage["coverage"] < RARE).sum()),
        "rare": f"{100 * RARE:.0f}",
        "lowest": f"{100 * lowest['coverage']:.1f} % ({lowest['kind']}; {lowest['case']})",
        "enough_seeds": ENOUGH_SEEDS,
        "trainings": trained,
        "smaller": any(row["smaller"] for row in trained),
        "datasets": series(list(dict.fromkeys(row["dataset"] for row in trained))),
        "fields": {name: f"{side:.0f}" for name, side in sizes.groupby("dataset")["theoretical_rf"].first().items()},
    }


def trainings(sizes: pd.DataFrame, recipes: dict) -> list[dict]:
    """A row for each training that the protocol governs: its start, and how many of its planned seeds are in."""
    rows = []
    for _, here in sizes.groupby("name", sort=False):
        dataset, last = here["dataset"].iloc[0], int(here["epoch"].max())
        width, (full_width, full_epochs) = recipes[dataset]["network"]["width"], DATASETS[dataset].full_scale
        rows.append(
            {
                "dataset": DATASETS[dataset].title,
                "start": f"{here['residual_scale'].iloc[0]:g}",
                "width": width,
                "epochs": last,
                "smaller": width < full_width or last < full_epochs,
                "seeds": f"{here['seed'].nunique()} of {len(recipes[dataset]['seeds'])}",
                "images": int(here["images"].iloc[0]),
            }
        )
    return rows


def content(args: argparse.Namespace) -> dict:
    """All that the template prints."""
    claims, texts = read_checked(args.kept / "claims.json"), args.template.parent
    recipes = yaml.safe_load(noted(args.trainings).read_text(encoding="utf-8"))["training_defaults"]
    citation = yaml.safe_load(noted(args.citation).read_text(encoding="utf-8"))
    captions = {name: caption(checked(texts.parent / f"{name}.rst")) for name in (*FIGURES, *BEYOND)}
    return {
        "title": title_of(claims),
        "counted": counts_in_words(claims),
        "counts": count_table(claims),
        "claims": {claim["id"]: entry(claim) for claim in claims},
        "topics": list(dict.fromkeys(claim["topic"] for claim in claims)),
        "failed": failed_of(claims),
        "earlier": [claim["id"] for claim in claims if EARLIER in claim["note"]],
        "missing": [claim["id"] for claim in claims if claim["verdict"] == NOT_RUN],
        "figures": {
            name: told | {"earlier": kept_figure(args.kept, name).parent.name == "laptop"}
            for name, told in captions.items()
        },
        "tables": {name: dict(zip(("header", "rows"), make(args.kept), strict=True)) for name, make in TABLES.items()},
        "facts": facts(args.kept, recipes),
        "citation": citation,
    }


def metadata_of(found: dict, template: Path) -> str:
    """metadata.yaml, with ReScience C's keys."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: " ".join(str(value).split()),  # a line break would end a block of YAML
    )
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)  # a text as YAML
    return environment.from_string(template.read_text(encoding="utf-8")).render(found)


def article(args: argparse.Namespace, found: dict) -> bytes:
    """The .pdf. Its bytes depend on what is printed alone: fonts are Typst's own, and the date is the results'."""
    import typst

    with tempfile.TemporaryDirectory() as temporary:  # Typst reads from one folder alone
        folder = Path(temporary)
        figures = [kept_figure(args.kept, name) for name in found["figures"]]
        for path in (args.template, args.template.with_name("bibliography.bib"), *figures):
            shutil.copyfile(checked(path), folder / path.name)
        (folder / "content.json").write_text(json.dumps(found, default=str), encoding="utf-8")
        try:
            return typst.compile(folder / args.template.name, root=folder, ignore_system_fonts=True)
        except RuntimeError as error:
            raise InputError(f"{args.template}: {error}") from error


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--kept", type=Path, required=True, help="folder of the kept results, figures/reference")
    parser.add_argument("--trainings", type=Path, required=True, help="configuration of the kept trainings, .yaml")
    parser.add_argument("--citation", type=Path, required=True, help="whose work it is, CITATION.cff")
    parser.add_argument("--template", type=Path, required=True, help=".typ; metadata and bibliography lie beside it")
    parser.add_argument("--out", type=Path, required=True, help=".pdf; metadata.yaml and bibliography.bib come beside")
    args = parser.parse_args(argv)
    found = content(args)
    metadata = metadata_of(found, checked(args.template.with_name("metadata.yaml.jinja")))
    pdf = article(args, found | {"metadata": yaml.safe_load(metadata)}) if find_spec("typst") else None
    with atomic(args.out.with_name("metadata.yaml")) as temporary:
        temporary.write_text(metadata, encoding="utf-8")
    with atomic(args.out.with_name("bibliography.bib")) as temporary:
        shutil.copyfile(args.template.with_name("bibliography.bib"), temporary)
    if pdf is None:
        print(f"skipped: {args.out}: typst is not installed: pip install typst")
        return
    with atomic(args.out) as temporary:
        temporary.write_bytes(pdf)
    print(f"{args.out}: {found['title']}")


if __name__ == "__main__":
    sys.exit(main())
