"""The replication report: one page, with everything in it, of what was claimed, what was found, and how.

Text, style and script lie in workflow/report/; every number comes from the results and the configuration.
"""

import base64
import io
import json
import sys
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from docutils.core import publish_parts
from matplotlib import colormaps, image
from PIL import Image

from claim_tables import ours, read_checked
from cli import command, json_object, new_parser, read_table
from erf.errors import InputError
from erf.field import ReceptiveField, load_fields
from erf.files import atomic
from erf.labels import DATASETS, ENOUGH_SEEDS
from erf.plots import MAP_COLOURS, relative_map
from erf.provenance import provenance
from erf.stacks import STRUCTURES, series_name, special_layers
from erf.theory import THRESHOLD
from erf.verdicts import NOT_COMPARABLE, VERDICTS

SYMBOLS = dict(zip(VERDICTS, "●◆✕■–", strict=True))
LIMITS = {"depth": 40, "kernels": [3, 5, 7, 9, 11], "stride": 4, "dilation": 4}  # of the explorer's controls
LARGEST = 1200  # pixels of a side that the explorer draws
WIDTH = 1400  # pixels of a figure in the page: twice what it is shown at


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def picture(path: Path) -> dict:
    """A figure, made smaller, with its size on the page."""
    try:
        with Image.open(path) as original:
            shown = original.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: not a picture ({error}); delete it and run again") from error
    shown.thumbnail((WIDTH, 10 * WIDTH))
    buffer = io.BytesIO()
    shown.quantize(256).save(buffer, "PNG", optimize=True)
    return {"picture": data_uri(buffer.getvalue()), "width": shown.width // 2, "height": shown.height // 2}


def as_html(text: str) -> str:
    """reStructuredText as a piece of a page; InputError for what docutils finds wrong in it."""
    settings = {"file_insertion_enabled": False, "raw_enabled": False, "halt_level": 2, "report_level": 5}
    try:
        return publish_parts(text, writer="html5", settings_overrides=settings)["body"]
    except Exception as error:  # docutils has no narrower one
        raise InputError(f"a text of the report is not reStructuredText: {error}") from error


def texts_of(folder: Path, values: dict) -> dict[str, str]:
    """The page's own texts, with values filled in."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return {
        path.name.split(".")[0]: as_html(environment.from_string(path.read_text()).render(values))
        for path in sorted(folder.glob("*.rst.jinja"))
    }


def figure_of(entry: dict, path: Path, texts: Path, remake: str) -> dict:
    """A figure with its caption and command; the caption's first sentence describes it to whoever cannot see it."""
    caption = (texts / f"{entry['name']}.rst").read_text().strip()
    alt = caption.split(". ")[0].replace("*", "").replace("``", "").rstrip(".") + "."
    made_by = remake.replace("{figure}", entry["name"])
    return {**entry, **picture(path), "caption": as_html(caption), "alt": alt, "command": made_by}


def measured_map(field: ReceptiveField) -> dict:
    """A measured map for the explorer: the settings by which it is found, its picture and numbers."""
    settings, fit = field.settings, field.fit_gaussian()
    buffer = io.BytesIO()
    image.imsave(buffer, relative_map(field, fit), cmap=MAP_COLOURS, vmin=0, vmax=1, format="png")
    unit = "" if settings["unit"] == "before" else ", unit after its activation"
    counts = (f"{settings[name]} {name if settings[name] > 1 else name[:-1]}" for name in ("channels", "runs"))
    label = f"{', '.join([series_name(settings), *counts])}{unit}"
    return {
        **{name: settings[name] for name in ("depth", "kernel", "weights", "structure")},
        "special": list(special_layers(settings)),
        "label": label,
        "picture": data_uri(buffer.getvalue()),
        "size": f"{field.size:.1f}",
        "sigma": f"{np.mean(fit.sigma):.2f}",
        "ratio": f"{field.ratio:.3f}",
    }


def explorer_data(paths: list[Path]) -> dict:
    """What the explorer needs beside its formulas."""
    fields = [field for path in paths for field in load_fields(path)]
    shown = [
        measured_map(field)
        for field in fields
        if field.settings["reading"] == "abs"
        and field.settings["centre_light"] == 0
        and field.settings["depth"] <= LIMITS["depth"]
        and field.dead < field.settings["runs"]
    ]
    colours = (colormaps[MAP_COLOURS](np.arange(256), bytes=True)[:, :3]).tolist()
    return {"threshold": THRESHOLD, "largest": LARGEST, "colours": colours, "measured": shown}


def cost_table(folder: Path) -> list[dict]:
    """Times by rule, the longest first, from a configuration's benchmark files: <rule>.tsv, or <rule>/...tsv."""
    jobs = []
    for path in sorted(folder.glob("**/*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        if Path(__file__).with_name(f"{rule}.py").exists():  # other configurations' folders lie beside the paper's
            jobs.append({"rule": rule, **read_benchmark(path)})
    if not jobs:
        return []
    rules = (
        pd.DataFrame(jobs)
        .groupby("rule")
        .agg(jobs=("seconds", "size"), total=("seconds", "sum"), longest=("seconds", "max"), memory=("memory", "max"))
    )
    return [
        {"rule": row.Index, "jobs": row.jobs, "total": duration(row.total), "longest": duration(row.longest)}
        | {"memory": "" if np.isnan(row.memory) else f"{row.memory / 1024:.1f}"}
        for row in rules.sort_values("total", ascending=False).itertuples()
    ]


def duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def read_benchmark(path: Path) -> dict:
    """Seconds and memory (MiB) of one job."""
    table = pd.read_csv(path, sep="\t", na_values="-")
    return {"seconds": float(table["s"].iloc[-1]), "memory": float(table["max_rss"].iloc[-1])}


def speed_table(paths: list[Path]) -> list[dict]:
    """Speed of each training, from .../<training>/seed_<seed>/speed.csv."""
    if not paths:
        return []
    runs = pd.concat([read_table(path, "seconds").assign(training=path.parent.parent.name, run=path) for path in paths])
    rows = []
    for training, here in runs.groupby("training", sort=False):
        share = here["share_of_bf16_peak"].mean()
        rows.append(
            {
                "training": training,
                "seeds": here["run"].nunique(),
                "minutes": f"{here.groupby('run')['seconds'].sum().mean() / 60:.1f}",
                "images": f"{here['images_per_second'].mean():.0f}",
                "share": "" if np.isnan(share) else f"{100 * share:.0f} %",
                "device": f"{here['device'].iloc[0]}, {here['threads'].iloc[0]} threads",
            }
        )
    return rows


def grouped(seeds: dict[str, dict[str, list[int]]]) -> dict[str, str]:
    """By what was run with which seeds, the names that have them."""
    found = {}
    for section, names in seeds.items():
        for name, own in names.items():
            found.setdefault(f"{section}, seed{'s' * (len(own) > 1)} {', '.join(map(str, own))}", []).append(name)
    return {label: ", ".join(names) for label, names in found.items()}


def digests_of(datasets: dict[str, dict]) -> dict[str, str]:
    """Checksums against which the datasets in use were held."""
    found = {}
    for name, registry in datasets.items():
        if "sha256" in registry:
            found[f"{DATASETS[name]}, SHA-256 of all decoded pixels"] = registry["sha256"]
        else:
            found |= {f"{DATASETS[name]} {member}, MD5": digest for member, digest in registry["members"].items()}
    return found


def page(args) -> str:
    facts, claims, texts = args.facts, read_checked(args.claims), args.template.parent
    values = {
        **facts,
        "threshold": f"{100 * THRESHOLD:.2f}",
        "labels": DATASETS,
        "enough_seeds": ENOUGH_SEEDS,
        "trained": [label for name, label in DATASETS.items() if name in facts["datasets"]],
        "smaller": any(claim["verdict"] == NOT_COMPARABLE for claim in claims),
    }
    figures = [
        figure_of(entry, path, texts, facts["command"])
        for entry, path in zip(facts["figures"], args.pictures, strict=True)
    ]
    verdicts = [claim["verdict"] for claim in claims]
    scorecard = {**picture(args.scorecard), "caption": as_html((texts / "scorecard.rst").read_text())}
    explorer = json.dumps(explorer_data(args.fields), ensure_ascii=False).replace("</", "<\\/")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(texts), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(args.template.name).render(
        style=(texts / "style.css").read_text(),
        script=(texts / "explorer.js").read_text(),
        explorer=explorer,
        texts=texts_of(texts, values),
        symbols=SYMBOLS,
        counts={verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts},
        claims=[{**claim, "ours": ours(claim)} for claim in claims],
        topics=list(dict.fromkeys(claim["topic"] for claim in claims)),
        scorecard=scorecard,
        parts=list(dict.fromkeys(figure["part"] for figure in figures)),
        figures=figures,
        limits=LIMITS,
        start={"depth": 15, "kernel": 3, "special": facts["special_layers"], "stride": 2, "dilation": 2},
        structures=STRUCTURES,
        cost=cost_table(args.benchmarks),
        benchmarks=f"{args.benchmarks}/",
        speed=speed_table(args.speed),
        provenance=provenance(Path(__file__).parent),
        digests=digests_of(facts["datasets"]),
        seeds=grouped(facts["seeds"]),
        configuration=json.dumps(facts["configuration"], indent=1, ensure_ascii=False),
    )


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--claims", type=Path, required=True, help="what check_claims wrote, .json")
    parser.add_argument("--scorecard", type=Path, required=True, help=".png")
    parser.add_argument("--facts", type=json_object, required=True, help="figures, seeds and settings, JSON")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="the figures, .png, in the facts' order")
    parser.add_argument("--fields", type=Path, nargs="*", default=[], help="results of measure_network, .npz")
    parser.add_argument("--speed", type=Path, nargs="*", default=[], help="tables of the trainings, one a seed")
    parser.add_argument("--template", type=Path, required=True, help="the page's; captions and texts lie beside it")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder with the times of the jobs")
    parser.add_argument("--out", type=Path, required=True, help="the page, .html")
    args = parser.parse_args(argv)
    text = page(args)
    with atomic(args.out) as temporary:
        temporary.write_text(text)
    print(f"{args.out}: {len(text) / 2**20:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())
