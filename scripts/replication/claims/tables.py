"""Claims as check_claims leaves them in its .json, for the scripts that show them."""

import json
import math
from pathlib import Path

from erf.errors import InputError
from erf.system.files import checked
from replication.claims.verdicts import NOT_COMPARABLE, NOT_REPRODUCED, PARTLY, REPRODUCED, UNDECIDED, VERDICTS
from replication.drawing.labels import with_interval

OTHERWISE = {  # what the verdict would be without the obstacle, or by the estimates alone
    REPRODUCED: "would hold",
    PARTLY: "mixed",
    UNDECIDED: "open",
    NOT_REPRODUCED: "would fail",
}
KIND_TITLES = {"empirical": "empirical", "theory": "forced by theory", "identity": "identities"}


def read_checked(path: Path) -> list[dict]:
    """Claims as check_claims leaves them; InputError for a file that is something else."""
    checked(path)
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"id", "topic", "kind", "statement", "paper", "parts", "verdict", "because", "otherwise"}
        wanted |= {"unit", "digits", "region", "measured", "low", "high"}
        if not claims or not all(claim.keys() >= wanted for claim in claims):
            raise ValueError("not a list of claims")
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not what check_claims wrote ({error}); delete it and run again") from error
    return claims


def number(value: float | None) -> float:
    return math.nan if value is None else value


def ours(claim: dict) -> str:
    """The measurement that speaks most against the claim, as printed."""
    if claim["measured"] is None:
        return ""
    value = with_interval(claim["measured"], number(claim["low"]), number(claim["high"]), claim["digits"])
    return f"{value} {claim['unit']}".strip()


def strip_of(claim: dict) -> dict:
    """A claim's measurements beside the values that its rule accepts, on a scale of its own from 0 to 1.

    `accepted` has the two ends; each of `parts` has `verdict`, `value`, `low`, `high` (None without an interval).
    """
    low, high = (number(end) for end in claim["region"])
    shown = [part for part in claim["parts"] if part["value"] is not None]
    ends = [low, high, *(number(part[key]) for part in shown for key in ("value", "low", "high"))]
    ends = [end for end in ends if math.isfinite(end)]
    first, last = min(ends), max(ends)
    margin = 0.15 * (last - first) or 1.0
    first, last = first - margin, last + margin

    def place(value: float | None) -> float | None:
        return None if value is None else (min(max(value, first), last) - first) / (last - first)

    return {
        "accepted": (place(first if math.isnan(low) else low), place(last if math.isnan(high) else high)),
        "parts": [
            {name: place(part[name]) for name in ("value", "low", "high")}
            | {"verdict": claim["verdict"] if claim["verdict"] == NOT_COMPARABLE else part["verdict"]}
            for part in shown
        ],
    }


def verdict_of(claim: dict) -> str:
    """The verdict as printed: "partly (mixed)", "undecided (would hold)"."""
    told = claim["because"] or OTHERWISE.get(claim["otherwise"], "")
    return claim["verdict"] + (f" ({told})" if told else "")


def is_the_papers(claim: dict) -> bool:
    """Whether the paper or its poster says it; the other claims are its reviewers' and this project's questions."""
    return claim["paper"] not in ("asked", "none")


def counts_by_kind(claims: list[dict]) -> dict[str, dict[str, int]]:
    """How many claims of each kind have each verdict, in the order of both."""
    found = {}
    for kind, title in KIND_TITLES.items():
        verdicts = [claim["verdict"] for claim in claims if claim["kind"] == kind]
        if verdicts:
            found[title] = {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}
    return found


def counts_in_words(claims: list[dict]) -> list[str]:
    """A sentence for each kind: "Of 21 empirical claims: 10 reproduced, 3 partly."."""
    lines = []
    for kind, counts in counts_by_kind(claims).items():
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        name = {"identities": "identities", "forced by theory": "claims that theory forces"}.get(kind, f"{kind} claims")
        lines.append(f"Of {sum(counts.values())} {name}: {told}.")
    return lines


def part_of(claim: dict, part: dict) -> str:
    """One of a claim's measurements, as printed: "random: 4.135 [4.102, 4.167] × plain"."""
    label = f"{part['label']}: " if part["label"] else ""
    shrinks = claim["unit"] == "× before" and part["value"] is not None and (number(part["high"]) or math.inf) < 1
    if part["value"] is None:
        return label + part["absent"]
    interval = with_interval(part["value"], number(part["low"]), number(part["high"]), claim["digits"])
    return f"{label}{interval} {claim['unit']}{', which is a shrinkage' if shrinks else ''}".strip()


def capital(text: str) -> str:
    """A text as it begins a sentence."""
    return text[:1].upper() + text[1:] if text[:1].isascii() else text  # γ is no Γ
