"""Settings checked strictly, file by file and against a schema: what is wrong with them ends in one line.

The line names the key by its full dotted path and says what to write. It is bounded in length, and nothing of a value
reaches the terminal that is not printable. This module knows no key; checks.py does.

    python workflow/lib/strict.py mine.yaml     what is wrong with a file that Snakemake cannot read, and where
"""

import codecs
import contextlib
import difflib
import functools
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import jsonschema
import yaml

# Far beyond any configuration. Deeper or longer ones (a few aliases make millions of values) would end in an error of
# Python's recursion or memory, and longer whole numbers cannot even be shown.
DEEPEST, MOST_VALUES, LARGEST = 20, 100_000, 10**15
LONGEST = 60  # characters of a value or a key that are shown
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one takes a tenth of the time
NO_TEXT = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what YAML does not allow
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section (key: value)",
}


def stop(key: str, problem: str) -> None:
    """End with one line that names the key, before any job has started."""
    sys.exit(f"error: config: {key}: {problem}")


def dotted(path: Iterable) -> str:
    """Keys and places in lists, from the top, as one name."""
    return (
        ".".join(part if is_plain(part) else "null" if part is None else brief(part) for part in path) or "(top level)"
    )


def is_plain(part: object) -> bool:
    """Whether a key can be shown as it is."""
    return isinstance(part, str) and re.fullmatch(rf"[\w.-]{{1,{LONGEST}}}", part, re.ASCII) is not None


def brief(value: object) -> str:
    """A value as a message has it: short, and without a character that a terminal obeys."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return f"{value}".replace("nan", ".nan").replace("inf", ".inf")  # as YAML has it
        case int() | float():
            return repr(value)
        case str():
            return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}…")
        case list():
            return "a list"
        case dict():
            return "a section"
    return f"a value of type {type(value).__name__}"  # a date, for one


def near(name: object, names: Iterable[str]) -> str:
    """What may have been meant, if anything comes near."""
    found = difflib.get_close_matches(str(name)[:LONGEST].lower(), map(str, names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def check_file(path: Path, *place: str) -> None:
    """A file of settings, which lie at `place`, can be read, and no key stands twice in a section: the last one
    would win in silence."""
    text = text_of(path, *place)
    try:
        root = yaml.compose(text, LOADER)
    except Exception as error:
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            return  # JSON with tabs, which Snakemake reads; which keys stand twice there is not told
        refuse(path, place, not_yaml(error))
    if problem := too_much(root):
        refuse(path, place, problem)
    check_keys(root, file_name(path), place)


def text_of(path: Path, *place: str) -> str:
    """A file of settings, which lie at `place`: text in UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        refuse(path, place, f"cannot be read: {error.strerror}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # UTF-32 begins like this, too
        refuse(path, place, "is not in UTF-8 but in UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        refuse(path, place, f"is not in UTF-8: see line {line}, and save it as UTF-8")
    if strange := NO_TEXT.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        refuse(path, place, f"holds {strange[0]!r}, which is no text: see line {line}, and save it as text in UTF-8")
    return text


def not_yaml(error: Exception) -> str:
    """Where in a file of settings the YAML ends, and why."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if not mark:
        return f"is not YAML ({brief(str(error))[1:-1]})"
    return f"is not YAML: see line {mark.line + 1}" + (f", {brief(problem)[1:-1]}" if problem else "")


def refuse(path: Path, place: tuple, problem: str) -> None:
    """End with one line on a file, whose settings lie at `place`."""
    where = f"{dotted(place)}: " if place else ""
    sys.exit(f"error: config: {where}{file_name(path)} {problem}")


def too_much(root: yaml.Node | None) -> str:
    """Why a file would take too long to load, or for ever; empty if it would not.

    A few aliases make millions of values, and a value that holds its own alias has no end.
    """
    counts: dict[int, int] = {}  # values in each node and below it

    def count(node: yaml.Node, depth: int) -> int:
        if depth > DEEPEST:
            raise OverflowError
        if id(node) not in counts:
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            pairs = itertools.chain(*inner) if isinstance(node, yaml.MappingNode) else inner
            counts[id(node)] = 1 + sum(count(each, depth + 1) for each in pairs)
        return counts[id(node)]

    try:
        return f"has more than {MOST_VALUES} values" if root and count(root, 0) > MOST_VALUES else ""
    except OverflowError:
        return f"is nested in more than {DEEPEST} levels"


def check_keys(root: yaml.Node | None, name: str, place: tuple) -> None:
    """No key stands twice in a section of the YAML file `name`."""
    pending, done = [(place, root)], set()
    while pending:
        place, node = pending.pop()
        if id(node) in done:  # what an alias stands for is one node
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += [((*place, number), item) for number, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines = {}
            for key, value in node.value:
                if (key.tag, str(key.value)) in lines:
                    first, again = lines[key.tag, str(key.value)], key.start_mark.line + 1
                    stop(dotted([*place, key.value]), f"twice in {name}, in lines {first} and {again}")
                lines[key.tag, str(key.value)] = key.start_mark.line + 1
                pending.append(((*place, key.value), value))


def file_name(path: Path) -> str:
    """A file's path as messages have it."""
    name = os.path.relpath(path)
    return name if name.isprintable() else brief(name)


@functools.cache
def read_schema(path: Path) -> dict:
    return yaml.load(path.read_bytes(), LOADER)


def read(path: Path) -> dict:
    """The settings in a YAML file that `check_file` has let through."""
    return yaml.load(text_of(path), LOADER)


def check_settings(path: Path) -> None:
    """A file for --configfile is one that Snakemake can read; what its settings should be is not looked at."""
    settings = loaded(path, loader=yaml.SafeLoader)  # as Snakemake's: it refuses a tab that the one in C lets through
    if not isinstance(settings, dict):
        found = "nothing" if settings is None else brief(settings)
        refuse(path, (), f"must hold settings (key: value) at its top level, not {found}")
    check_plain(settings)


def loaded(path: Path, *place: str, loader: type = LOADER) -> object:
    """What a file of settings, which lie at `place`, holds; it need not be settings."""
    check_file(path, *place)
    text = text_of(path, *place)
    try:
        return yaml.load(text, loader)
    except Exception as error:  # whatever a tag with the wrong value, or JSON with tabs, brings PyYAML to
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
        refuse(path, place, not_yaml(error))


def read_list(path: Path, key: str) -> list:
    """A YAML file that holds a list."""
    settings = loaded(path, key)
    check_plain(settings, key)
    check_schema({"type": "array", "items": {"type": "object"}}, settings, key)
    return settings


def check_plain(settings: object, *path: str) -> None:
    """Every key is text, and there is no more, and nothing larger or deeper, than can be handled."""
    for number, (place, value) in enumerate(every_value(settings, path)):
        if len(place) > DEEPEST:
            stop(dotted(place[:3]), f"nested in more than {DEEPEST} levels")
        if number > MOST_VALUES:
            stop(dotted(path), f"more than {MOST_VALUES} values")
        if isinstance(value, int) and abs(value) >= LARGEST:
            stop(dotted(place), "a number of more than 15 digits; text needs quotes")
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                stop(dotted([*place, key]), "not a setting; keys are text (yes, no, on, off and numbers need quotes)")


def every_value(value: object, path: tuple) -> Iterator[tuple[tuple, object]]:
    """Each value with its path, one after the other: whoever takes them decides how deep this goes."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from every_value(inner, (*path, key))


def whole_pattern(validator, pattern, value, schema):
    """`pattern` for the whole text: Python's `$` also matches in front of a line break at the end."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield jsonschema.ValidationError("")


# For jsonschema 5.0 is a whole number, and NaN and infinity lie within any range.
TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
)
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"pattern": whole_pattern}, type_checker=TYPES
)


def check_schema(schema: dict, settings: object, *path: str) -> None:
    """`settings`, which lie at `path` in the configuration, are as the schema has them."""
    error = min(Validator(schema).iter_errors(settings), key=urgency, default=None)
    if error:
        key, problem = explained(error)
        stop(dotted([*path, *key]), problem)


def urgency(error: jsonschema.ValidationError) -> tuple:
    """A misspelt key first, since what is missing may be the one that was meant; a list's entries before what they make
    together; then what lies nearest to the top."""
    together = error.validator in ("uniqueItems", "contains")
    return error.validator != "additionalProperties", together, len(error.absolute_path)


def explained(error: jsonschema.ValidationError) -> tuple[list, str]:
    """Path of the wrong key itself, and in a user's words what is wrong with it."""
    path, rule, wanted, value = list(error.absolute_path), error.validator, error.validator_value, error.instance
    if "propertyNames" in error.absolute_schema_path:
        path.append(value)
    match rule:
        case "additionalProperties":
            known = error.schema["properties"]
            key = next(key for key in value if key not in known)
            return [*path, key], "not a setting" + (near(key, known) or " here")
        case "required":
            return [*path, next(key for key in wanted if key not in value)], "missing"
        case "type":
            return path, f"must be {KINDS[wanted]}, not {brief(value)}{as_wanted(value, wanted)}"
        case "enum":
            return path, f"must be one of {', '.join(map(str, wanted))}, not {brief(value)}" + (
                near(value, wanted) if isinstance(value, str) else ""
            )
        case "anyOf":
            return path, f"must be {error.schema['anyOfErrorMessage']}, not {brief(value)}"
        case "pattern" if "patternErrorMessage" in error.schema:
            return path, f"must be {error.schema['patternErrorMessage']}, not {brief(value)}"
        case "not":
            return path, f"must not be {brief(value)}, which has another use"
        case "minimum" | "maximum":
            return path, f"must be at {'least' if rule == 'minimum' else 'most'} {wanted}, not {brief(value)}"
        case "exclusiveMinimum" | "exclusiveMaximum":
            return path, f"must be {'more' if rule == 'exclusiveMinimum' else 'less'} than {wanted}, not {brief(value)}"
        case "minItems" | "minProperties" | "maxItems" | "maxProperties":
            bound = "least" if rule.startswith("min") else "most"
            return path, f"must have at {bound} {counted(wanted, 'entr', 'y', 'ies')}, not {len(value)}"
        case "minLength" | "maxLength":
            bound = "least" if rule.startswith("min") else "most"
            return path, f"must have at {bound} {counted(wanted, 'character', '', 's')}, not {len(value)}"
        case "uniqueItems":
            return path, f"must have no entry twice, as {brief(next(x for n, x in enumerate(value) if x in value[:n]))}"
        case "contains" if "const" in wanted:
            return path, f"must have {wanted['const']} among its entries"
    return path, f"not as the schema has it ({rule})"


def counted(number: int, stem: str, one: str, several: str) -> str:
    return f"{number} {stem}{one if number == 1 else several}"


def as_wanted(value: object, wanted: str) -> str:
    """How to write what YAML reads as something else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "; put it in quotes" if wanted == "string" and number else as_number(value, wanted)


def as_number(value: object, wanted: str) -> str:
    """How to write a number that YAML reads as text (5e-4: its exponents need a point and a sign), or as a fraction."""
    text = value if isinstance(value, str) else repr(value) if isinstance(value, float) else ""
    if wanted not in ("integer", "number") or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", text, re.I):
        return ""
    number = Decimal(text)
    if wanted == "integer":
        return f"; write {number:.0f}" if number == number.to_integral_value() else ""
    mantissa, _, exponent = text.lower().partition("e")
    return f"; write {number:f}" + (f" or {float(mantissa)}e{int(exponent):+d}" if exponent else "")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        check_settings(Path(argument))
