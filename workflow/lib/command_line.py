"""What Snakemake's own parser makes of a command line's mistakes, or of a file of settings that cannot be read, is a
traceback, before it has read the Snakefile: so the profiles run this first."""

import argparse
import difflib
import shlex
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the profiles run this by its path

from lib import strict

SUFFIXES = (".yaml", ".yml", ".json")


def check(words: list[str]) -> None:
    """End with one line if --config or --configfile takes a target for a setting or a file of settings, or if such a
    file cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    given = parser.parse_known_args(words[: words.index("--")] if "--" in words else words)[0]
    for number, setting in enumerate(given.config):
        if "=" not in setting:
            if number == 0:
                sys.exit(f"error: --config takes settings, such as device=cpu, and not {setting!r}")
            right = f"--config={given.config[0]}" if number == 1 else f"--config {shlex.join(given.config[:number])} --"
            rest = shlex.join(given.config[number:])
            sys.exit(f"error: --config takes {setting!r} for a setting, too: write {right} {rest}")
    files = given.configfile
    for number, path in enumerate(files):
        if number and not path.endswith(SUFFIXES):
            right = f"--configfile={files[0]}" if number == 1 else f"--configfile {shlex.join(files[:number])} --"
            rest = shlex.join(files[number:])
            sys.exit(f"error: --configfile takes {path!r} for a file of settings, too: write {right} {rest}")
        if not Path(path).exists():
            sys.exit(f"error: --configfile: there is no file {shown(path)}{near(path)}")
        if not Path(path).is_fifo():  # which could be read but once
            strict.check_settings(Path(path))


def shown(path: str) -> str:
    """A word of the command line, in a terminal."""
    return path if path.isprintable() else repr(path)


def near(path: str) -> str:
    """Which of the project's files may have been meant."""
    there = {
        file.stem: file for folder in (Path("config"), Path(path).parent) for file in sorted(folder.glob("*.yaml"))
    }
    found = difflib.get_close_matches(Path(path).stem, there, n=1)
    return f"; did you mean {there[found[0]]}?" if found else ""


if __name__ == "__main__":
    check(sys.argv[1:])
