"""The replication report: one page, with everything in it, of what was claimed, what was found, and how.

All that comes from results, claims and settings is text there, whatever it holds: the template escapes it, and the page
tells the browser to run no script but its own and to load nothing.

Text, style and script lie in workflow/report/; every number comes from the results and the configuration.

Reads the claims, the figures and the results of a configuration; takes seconds.
"""

import argparse
import base64
import hashlib
import html
import io
import json
import re
import sys
from pathlib import Path

import jinja2
import numpy as np
from docutils.core import publish_parts
from docutils.utils import SystemMessage
from PIL import Image

from erf.errors import InputError
from erf.result.field import ReceptiveField, load_fields
from erf.size import THRESHOLD
from erf.system.files import atomic, checked
from replication.claims.measures import Results, smaller_scale
from replication.claims.tables import OTHERWISE, counts_by_kind, ours, read_checked, strip_of
from replication.claims.verdicts import NOT_REPRODUCED, NOT_RUN, VERDICTS, Region
from replication.commands.cli import add_settings, command, new_parser
from replication.commands.provenance import provenance
from replication.datasets.table import DATASETS
from replication.drawing.labels import ENOUGH_SEEDS
from replication.drawing.report_explorer import LIMITS, explorer_data
from replication.drawing.report_tables import (
    cost_table,
    digests_of,
    grouped,
    origins_table,
    speed_table,
    training_table,
)
from replication.stacks.predictions import predicted_size
from replication.stacks.structures import STRUCTURES

SYMBOLS = dict(zip(VERDICTS, "●◆◇✕■–", strict=True))
WIDTH = 1400  # pixels of a figure in the page: twice what it is shown at


def picture(path: Path) -> dict:
    """A figure, made smaller, with its size on the page."""
    checked(path)
    try:
        with Image.open(path) as original:
            shown = original.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: not a picture ({error}); delete it and run again") from error
    shown.thumbnail((WIDTH, 10 * WIDTH))
    buffer = io.BytesIO()
    shown.quantize(256).save(buffer, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"picture": uri, "width": shown.width // 2, "height": shown.height // 2}


def as_html(text: str) -> str:
    """reStructuredText as a piece of a page; InputError for what docutils finds wrong in it, and for links that are no
    web address."""
    settings = {"file_insertion_enabled": False, "raw_enabled": False, "halt_level": 2, "report_level": 5}
    try:
        body = publish_parts(text, writer="html5", settings_overrides=settings)["body"]
    except SystemMessage as error:
        raise InputError(f"a text of the report is not reStructuredText: {error}") from error
    if wrong := re.search(r'(?:href|src|data)="(?!https?://|#)([^"]*)"', body):
        raise InputError(f"a text of the report leads to {html.unescape(wrong[1])}; only https:// links are allowed")
    return body


def as_words(value) -> str:
    """A value in reStructuredText that says just this: none of its characters is markup, and it stays in its line."""
    return re.sub(r"([^\w\s.]|_)", r"\\\1", re.sub(r"\s*[\n\r]\s*", " ", str(value)))


def texts_of(folder: Path, values: dict) -> dict[str, str]:
    """The page's own texts, with values filled in."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=as_words)
    return {
        path.name.split(".")[0]: as_html(environment.from_string(path.read_text(encoding="utf-8")).render(values))
        for path in [*sorted(folder.glob("*.rst.jinja")), folder / "verdicts.rst"]
    }


def captioned(path: Path) -> dict[str, str]:
    """The caption of a text, and what its first comment says for those who cannot see the figure."""
    alt, caption = path.read_text(encoding="utf-8").split("\n\n", 1)
    return {"alt": alt.removeprefix(".. alt: "), "caption": as_html(caption)}


def largest_deviation(fields: list[ReceptiveField], channels: int) -> str:
    """Per cent by which ERF sizes of networks of so many channels differ from theory's, at most."""
    wide = [field for field in fields if field.settings["width"] == channels and field.settings["reading"] == "before"]
    apart = [abs(field.size / predicted_size(field.settings) - 1) for field in wide]
    return f"{100 * np.nanmax([0, *apart]):.1f}"


def page(args: argparse.Namespace) -> str:
    """The whole page."""
    facts, claims, texts = args.settings, read_checked(args.claims), args.template.parent
    for path in sorted(texts.glob("*.*")):
        checked(path)  # for the record: another text makes another page
    trainings = Results(trainings=facts["trainings"])
    fields = [field for path in args.fields for field in load_fields(path) if field.settings["variant"] == "abs"]
    values = {
        **facts,
        "deviation": largest_deviation(fields, facts["width"]),
        "threshold": f"{100 * THRESHOLD:.2f}",
        "labels": {name: dataset.title for name, dataset in DATASETS.items()},
        "enough_seeds": ENOUGH_SEEDS,
        "trained": [dataset.title for name, dataset in DATASETS.items() if name in facts["datasets"]],
        "smaller": any(smaller_scale(trainings, Region(), dataset) for dataset in facts["datasets"]),
    }
    figures = [
        {**entry, **picture(path), **captioned(texts / f"{entry['name']}.rst")}
        | {"command": facts["command"].replace("{figure}", entry["name"])}
        for entry, path in zip(facts["figures"], args.pictures, strict=True)
    ]
    kinds = counts_by_kind(claims)
    claims = [
        {
            **claim,
            "ours": ours(claim),
            "otherwise": OTHERWISE.get(claim["otherwise"], ""),
            "strip": strip_of(claim) if claim["verdict"] != NOT_RUN else None,
        }
        for claim in claims
    ]
    script = (texts / "explorer.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(texts, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(args.template.name).render(
        style=(texts / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        explorer=explorer_data(fields),
        texts=texts_of(texts, values),
        symbols=SYMBOLS,
        kinds=kinds,
        claims=claims,
        contradicted=[claim for claim in claims if claim["verdict"] == NOT_REPRODUCED],
        topics=list(dict.fromkeys(claim["topic"] for claim in claims)),
        scorecard=captioned(texts / "scorecard.rst"),
        parts=list(dict.fromkeys(figure["part"] for figure in figures)),
        figures=figures,
        titles={figure["name"]: figure["title"] for figure in figures},
        limits=LIMITS,
        start={"depth": 15, "kernel": 3, "special": facts["special_layers"], "stride": 2, "dilation": 2},
        structures=STRUCTURES,
        trained=training_table(args.sizes, args.scores),
        cost=cost_table(args.records),
        speed=speed_table(args.speed),
        origins=origins_table([*args.fields, *args.sizes, *args.scores, *args.pictures, args.claims]),
        provenance=provenance(Path(__file__).parent),
        digests=digests_of(facts["datasets"]),
        seeds=grouped(facts["seeds"]),
        configuration=json.dumps(facts["configuration"], indent=1, ensure_ascii=False),
    )


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--claims", type=Path, required=True, help="what check_claims wrote, .json")
    add_settings(parser, "figures, seeds and settings")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="the figures, .png, in that order")
    parser.add_argument("--fields", type=Path, nargs="*", default=[], help="results of measure_network, .npz")
    parser.add_argument("--sizes", type=Path, nargs="*", default=[], help="tables of measure_snapshots, one a seed")
    parser.add_argument("--scores", type=Path, nargs="*", default=[], help="tests of the trainings, one a seed")
    parser.add_argument("--speed", type=Path, nargs="*", default=[], help="tables of the trainings, one a seed")
    parser.add_argument("--template", type=Path, required=True, help="the page's; captions and texts lie beside it")
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="of the jobs, for their times, .json")
    parser.add_argument("--out", type=Path, required=True, help="the page, .html")
    args = parser.parse_args(argv)
    text = page(args)
    with atomic(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{args.out}: {len(text) / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
