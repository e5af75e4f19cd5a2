"""The gallery: each figure that a page shows, with where it is explained and the program that made it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["docs/results.md", "docs/conventions.md", "docs/performance.md", "README.md"]  # in the gallery's order
PROGRAMS = ["scripts/figure_{}.py", "figures/reference/{}.py", "tests/bench_{}.py"]


@dataclass(frozen=True)
class Shown:
    """A figure in a page; paths are in the repository.

    title : of the section that shows it
    picture, page, program : where it is, which page shows it, and which program makes it
    """

    title: str
    picture: str
    page: str
    program: str

    @property
    def anchor(self) -> str:
        """The section's address in its page, as GitHub makes it."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def shown() -> list[Shown]:
    """All figures, each once, by the first page that shows it; FileNotFoundError for one that no program makes."""
    found: dict[str, Shown] = {}
    for page in PAGES:
        for title, picture in _pictures(page):
            found.setdefault(picture, Shown(title, picture, page, _program(Path(picture).stem)))
    return list(found.values())


def _pictures(page: str) -> Iterator[tuple[str, str]]:
    """The nearest heading above each picture of a page, and the picture's path."""
    heading = ""
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if title := re.fullmatch(r"#+ (.+)", line):
            heading = title[1]
        elif picture := re.fullmatch(r"!\[.*\]\((.+\.png)\)", line):
            path = ((ROOT / page).parent / picture[1]).resolve()
            yield heading, path.relative_to(ROOT).as_posix()


def _program(name: str) -> str:
    """The program that makes the figure of this name."""
    for pattern in PROGRAMS:
        if (ROOT / pattern.format(name)).exists():
            return pattern.format(name)
    raise FileNotFoundError(f"no program makes the figure {name}: none of {', '.join(PROGRAMS)} is there")


def cards() -> str:
    """The gallery in MyST's Markdown, for docs/gallery.md."""
    found = [_card(one) for one in shown()]
    return "\n".join([":::::{grid} 1 2 2 2", ":gutter: 3", "", *found, ":::::"])


def _card(one: Shown) -> str:
    return f"""::::{{grid-item-card}} [{one.title}](../{one.page}#{one.anchor})
:img-top: ../{one.picture}
:img-alt: {one.title}
:::{{card-footer}}
{{download}}`{one.program} <../{one.program}>`
:::
::::
"""
