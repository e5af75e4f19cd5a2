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
from matplotlib import colormaps
from PIL import Image

from claim_tables import ours, read_checked
from cli import command, json_object, new_parser, read_table
from erf.claim_measures import Results, smaller_scale
from erf.errors import InputError
from erf.field import ReceptiveField, load_fields
from erf.files import atomic
from erf.intervals import mean_interval
from erf.labels import DATASETS, ENOUGH_SEEDS, SCORES, over_seeds
from erf.plots import MAP_COLOURS
from erf.provenance import provenance
from erf.stacks import STRUCTURES, predicted_fit, predicted_size, series_name, special_layers
from erf.theory import THRESHOLD, centre_impact
from erf.verdicts import NOT_REPRODUCED, VERDICTS, Region
from training_tables import read_scores, read_sizes

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
        for path in [*sorted(folder.glob("*.rst.jinja")), folder / "verdicts.rst"]
    }


def captioned(path: Path) -> dict[str, str]:
    """The caption of a text, and what its first comment says for those who cannot see the figure."""
    alt, caption = path.read_text().split("\n\n", 1)
    return {"alt": alt.removeprefix(".. alt: "), "caption": as_html(caption)}


def measured_map(field: ReceptiveField) -> dict:
    """A measured map for the explorer: the settings by which it is found, its pixels and its numbers."""
    settings, fit, impact = field.settings, field.fit_gaussian(), np.abs(field.map)
    scale = 65535 / impact.max()
    runs = settings["runs"] - field.dead
    channels = f"{settings['channels']} channel{'s' * (settings['channels'] > 1)}"
    unit = [] if settings["unit"] == "before" else ["unit after its activation"]
    alive = f"{runs} run{'s' * (runs > 1)}" + (f" ({field.dead} more were dead)" if field.dead else "")
    return {
        **{name: settings[name] for name in ("depth", "kernel", "weights", "structure")},
        "special": list(special_layers(settings)),
        "label": ", ".join([series_name(settings), channels, *unit, alive]),
        "height": impact.shape[0],
        "width": impact.shape[1],
        "values": base64.b64encode((impact * scale).round().astype("<u2").tobytes()).decode(),
        "peak": scale * (fit.peak if np.isfinite(fit.peak) else impact.max()),
        "level": scale * THRESHOLD * float(centre_impact(impact, field.position)),
        "size": f"{field.size:.1f}",
        "sigma": f"{np.mean(fit.sigma):.2f}",
        "theory": f"{np.mean(predicted_fit(settings).sigma):.2f}",
        "ratio": f"{field.ratio:.3f}",
    }


def explorer_data(fields: list[ReceptiveField]) -> dict:
    """What the explorer needs beside its formulas."""
    shown = [field for field in fields if field.settings["centre_light"] == 0 and field.dead < field.settings["runs"]]
    shown = [field for field in shown if field.settings["depth"] <= LIMITS["depth"]]
    shown.sort(key=lambda field: (-field.settings["channels"], -field.settings["runs"]))
    colours = (colormaps[MAP_COLOURS](np.arange(256), bytes=True)[:, :3]).tolist()
    return {"threshold": THRESHOLD, "largest": LARGEST, "colours": colours, "measured": list(map(measured_map, shown))}


def largest_deviation(fields: list[ReceptiveField], channels: int) -> str:
    """Per cent by which ERF sizes of networks of so many channels differ from theory's, at most."""
    wide = [field for field in fields if field.settings["channels"] == channels and field.settings["unit"] == "before"]
    apart = [abs(field.size / predicted_size(field.settings) - 1) for field in wide]
    return f"{100 * np.nanmax([0, *apart]):.1f}"


def cost_table(folder: Path, expected: dict[str, int]) -> list[dict]:
    """Times by rule, the longest first, and in all, from a configuration's benchmark files: <rule>.tsv, or
    <rule>/...tsv. `expected` has how many jobs a rule has, of those with more than one."""
    jobs = []
    for path in sorted(folder.glob("**/*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        if Path(__file__).with_name(f"{rule}.py").exists():  # other configurations' folders lie beside the paper's
            jobs.append({"rule": rule, **read_benchmark(path)})
    if not jobs:
        return []
    times = pd.DataFrame(jobs)
    rows = [(rule, here) for rule, here in times.groupby("rule")]
    rows += [(rule, times.iloc[:0]) for rule, count in expected.items() if count and rule not in set(times["rule"])]
    rows.sort(key=lambda row: -row[1]["seconds"].sum())
    return [cost_row(rule, here, expected.get(rule, 0)) for rule, here in [*rows, ("in all", times)]]


def cost_row(rule: str, jobs: pd.DataFrame, expected: int) -> dict:
    memory = jobs["memory"].max()
    return {
        "rule": rule,
        "jobs": len(jobs),
        "expected": expected,
        "total": duration(jobs["seconds"].sum()) if len(jobs) else "",
        "longest": duration(jobs["seconds"].max()) if len(jobs) else "",
        "memory": "" if np.isnan(memory) else f"{memory / 1024:.1f}",
    }


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
                "device": f"{here['device'].iloc[0]}, {counted(here['threads'].iloc[0], 'thread')}",
            }
        )
    return rows


def counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def training_table(sizes: list[Path], scores: list[Path]) -> list[dict]:
    """Test scores and ERF diameters of every training, means over seeds."""
    if not sizes:
        return []
    measured, tested = read_sizes(sizes), read_scores(scores)
    tested["score"] = 100 * tested.get("test_mean_iou", tested["test_accuracy"]).fillna(tested["test_accuracy"])
    rows = []
    for training, here in measured.groupby("training", sort=False):
        own, dataset = tested[tested["training"] == training], here["dataset"].iloc[0]
        diameters = here.pivot_table(index="seed", columns="snapshot", values="diameter")
        seeds = len(diameters)
        rows.append(
            {
                "training": training,
                "seeds": seeds,
                "score": f"{SCORES[dataset]} {over_seeds(mean_interval(own['score']), seeds)} %",
                "before": over_seeds(mean_interval(diameters["epoch_000"]), seeds),
                "after": over_seeds(mean_interval(diameters["best"]), seeds),
                "best": ", ".join(str(epoch) for epoch in sorted(set(own["best_epoch"]))),
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
    trainings = Results(trainings=facts["trainings"])
    fields = [field for path in args.fields for field in load_fields(path) if field.settings["reading"] == "abs"]
    values = {
        **facts,
        "deviation": largest_deviation(fields, facts["channels"]),
        "threshold": f"{100 * THRESHOLD:.2f}",
        "labels": DATASETS,
        "enough_seeds": ENOUGH_SEEDS,
        "trained": [label for name, label in DATASETS.items() if name in facts["datasets"]],
        "smaller": any(smaller_scale(trainings, Region(), dataset) for dataset in facts["datasets"]),
    }
    figures = [
        {**entry, **picture(path), **captioned(texts / f"{entry['name']}.rst")}
        | {"command": facts["command"].replace("{figure}", entry["name"])}
        for entry, path in zip(facts["figures"], args.pictures, strict=True)
    ]
    verdicts = [claim["verdict"] for claim in claims]
    claims = [{**claim, "ours": ours(claim)} for claim in claims]
    explorer = json.dumps(explorer_data(fields), ensure_ascii=False).replace("</", "<\\/")
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
        claims=claims,
        contradicted=[claim for claim in claims if claim["verdict"] == NOT_REPRODUCED],
        topics=list(dict.fromkeys(claim["topic"] for claim in claims)),
        scorecard={**picture(args.scorecard), **captioned(texts / "scorecard.rst")},
        parts=list(dict.fromkeys(figure["part"] for figure in figures)),
        figures=figures,
        titles={figure["name"]: figure["title"] for figure in figures},
        limits=LIMITS,
        start={"depth": 15, "kernel": 3, "special": facts["special_layers"], "stride": 2, "dilation": 2},
        structures=STRUCTURES,
        trained=training_table(args.sizes, args.scores),
        cost=cost_table(args.benchmarks, facts["jobs"]),
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
    parser.add_argument("--sizes", type=Path, nargs="*", default=[], help="tables of measure_snapshots, one a seed")
    parser.add_argument("--scores", type=Path, nargs="*", default=[], help="tests of the trainings, one a seed")
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
