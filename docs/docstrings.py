"""The library's docstrings as reStructuredText, of which the site makes its reference.

They are written to be read in an editor: headings as numpy's, `code` in single backticks, and lists of

    names : meaning, whose further lines
        are indented
"""

import re

_ITEM = re.compile(r'( *)((?:\*{0,2}\w+|"\w+")(?:, (?:\*{0,2}\w+|"\w+"))*) : (.*)')
_DOTTED = re.compile(r"[A-Za-z_][\w.]*")


def as_rst(lines: list[str]) -> list[str]:
    """A docstring's lines, without their common indentation, as reStructuredText.

    Lists become definition lists, headings become rubrics, and `names` become links where the reference has them.
    """
    found: list[str] = []
    example = False  # of Python, which ends with an empty line
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        item = _ITEM.fullmatch(line)
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>> "))
        if example:
            found.append(line)
        elif following and set(following.strip()) == {"-"}:
            found += [f".. rubric:: {line}", ""]
        elif set(line.strip()) == {"-"}:
            continue
        elif item:
            indent, names, meaning = item.groups()
            found += ["", f"{indent}``{names}``", f"{indent}    {_inline(meaning)}"]
        else:
            found.append(_inline(line))
    return found


def _inline(text: str) -> str:
    """One line of prose: its code marked, and nothing else taken for markup."""
    parts = text.split("`")
    parts[0::2] = [re.sub(r"[*|]|_(?!\w)", r"\\\g<0>", part) for part in parts[0::2]]
    parts[1::2] = [f":py:obj:`{code}`" if _DOTTED.fullmatch(code) else f"``{code}``" for code in parts[1::2]]
    return "".join(parts)
