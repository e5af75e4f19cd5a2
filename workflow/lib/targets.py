"""A target that nothing makes: what was meant, in one line."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from lib.checks import ALONE
from lib.figures import FIGURES
from lib.run import Run
from lib.strict import brief

FOLDERS = ("figures", "results", "logs", "benchmarks")  # in each of which a configuration has one of its own


def refusal(run: Run, target: str) -> str:
    """Why there is nothing that makes `target`, and what to write instead; an error's one line."""
    place, made = run.place, run.all_files()
    shown = target if target.isprintable() and len(target) < 200 else brief(target)
    folder, name, rest = parts(target)
    if rest and name != place.name:
        if (here := f"{folder}/{place.name}/{rest}") in made:
            return f"{shown}: this configuration writes {here}" + of_another(run, name)
        if name and (other := of_another(run, name)):
            return f"{shown}: this configuration, {place.name}, does not make it{other}"
    figure = Path(target).stem
    if figure in FIGURES and figure not in run.configuration.targets:
        targets = ", ".join(run.configuration.targets)
        return f"{shown}: {figure} is not a target of this configuration, which has {targets}"
    alone = [place.results(path.format(name=one)) for key, path in ALONE.items() for one in run.configuration[key]]
    found = nearest(target, [*made, *alone, *rule_names(run)], run)
    hint = (
        f"did you mean {found}?" if found else f"see figures/{place.name}/ and results/{place.name}/ for what is made"
    )
    return f"{shown}: no rule makes it; {hint}"


def parts(path: str) -> tuple[str, str, str]:
    """A path as its top folder, the configuration's name and the rest; a path without a name has an empty one."""
    found = re.fullmatch(rf"({'|'.join(FOLDERS)})/(?:([a-z][a-z0-9_]*)/)?(.+)", path.removeprefix("./"))
    return (found[1], found[2] or "", found[3]) if found else ("", "", "")


def of_another(run: Run, name: str) -> str:
    """How to ask for the configuration of that name; nothing, if the project has no file of it."""
    for path in sorted((run.place.project / "config").glob("*.yaml")):
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(settings, dict) and settings.get("name") == name:
            base = path.name == "config.yaml"
            return f"; {name} is " + ("the one without --configfile" if base else f"--configfile={path}")
    return ""


def nearest(target: str, names: Iterable[str], run: Run) -> str | None:
    """The file or rule whose name comes nearest; a word alone may stand for a figure."""
    names = list(names)
    if "/" not in target:
        words = {name: run.place.figures(f"{name}.png") for name in run.configuration.targets}
        words |= {
            f"{name}{suffix}": run.place.figures(f"{name}{suffix}")
            for name in words
            for suffix in (".png", ".pdf", ".csv")
        }
        names = [*words, *(name for name in names if "/" not in name)]
        found = difflib.get_close_matches(target[:100], names, n=1)
        return words.get(found[0], found[0]) if found else None
    found = difflib.get_close_matches(target[:200], names, n=1, cutoff=0.7)
    return found[0] if found else None


def rule_names(run: Run) -> list[str]:
    """Rules that can be asked for by their names: those whose files have no wildcards."""
    return [rule.name for rule in run.workflow.rules if not rule.has_wildcards()]


def examples(run: Run, targets: Iterable[str]) -> str | None:
    """For rules that make many files, and so cannot be targets: one of the files; None if no target is such a rule."""
    for rule in run.workflow.rules:
        if rule.name in targets and rule.has_wildcards():
            made = (path for path in run.all_files() for output in rule.output if output.match(path))
            told = f", such as {path}" if (path := next(made, None)) else ""
            return f"{rule.name} makes several files: name the one you want{told}, or `all`"
    return None
