"""Claims as check_claims leaves them in its .json, for the scripts that show them."""

import json
import math
from pathlib import Path

from erf.errors import InputError
from erf.system.files import checked
from replication.drawing.labels import with_interval


def read_checked(path: Path) -> list[dict]:
    """Claims as check_claims leaves them; InputError for a file that is something else."""
    checked(path)
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"id", "topic", "statement", "paper", "parts", "verdict", "because", "region", "digits"}
        wanted |= {"unit", "measured", "low", "high"}
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


def verdict_of(claim: dict) -> str:
    """The verdict as printed: "partly (undecided)"."""
    return claim["verdict"] + (f" ({claim['because']})" if claim["because"] else "")
