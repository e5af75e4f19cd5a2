"""Claims of the paper held against what was measured.

`config/claims.yaml` lists the claims, each with the function of `replication.claims.measures` that measures it and the
values that its rule accepts; `replication.claims.verdicts` makes verdicts of them.
"""

import inspect
import math
from dataclasses import dataclass, field

from erf.errors import InputError
from replication.claims.measures import MEASURES, OBSTACLES, NotRunError, Results
from replication.claims.verdicts import (
    NOT_COMPARABLE,
    NOT_RUN,
    UNDECIDED,
    Part,
    Region,
    because,
    overall,
    weakest,
)
from replication.drawing.labels import with_interval

KINDS = ("identity", "theory", "empirical")  # only a bug breaks it; forced by theory; only a measurement tells


@dataclass(frozen=True)
class Claim:
    """A claim of `config/claims.yaml`, which explains the fields."""

    id: str
    topic: str
    kind: str
    statement: str
    paper: str
    source: str
    figure: str
    measure: str
    accept: dict
    why: str
    against: str
    of: dict = field(default_factory=dict)
    digits: int = 3
    unit: str = ""
    note: str = ""
    obstacle: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise InputError(f"claim {self.id}: there is no kind {self.kind!r}, but {', '.join(KINDS)}")
        if self.measure not in MEASURES:
            raise InputError(f"claim {self.id}: there is no measure {self.measure!r}, but {', '.join(MEASURES)}")
        if self.obstacle and self.obstacle not in OBSTACLES:
            raise InputError(f"claim {self.id}: there is no obstacle {self.obstacle!r}, but {', '.join(OBSTACLES)}")
        try:
            inspect.signature(MEASURES[self.measure]).bind(Results(), **self.of)
            if self.obstacle:
                inspect.signature(OBSTACLES[self.obstacle]).bind(Results(), Region(), **self.of)
        except TypeError as error:
            raise InputError(f"claim {self.id}: of: {error}") from error
        region_of(self.id, self.accept)

    @property
    def region(self) -> Region:
        return region_of(self.id, self.accept)

    @property
    def accepted(self) -> str:
        """What the rule accepts, in words."""
        return f"{self.region.words(self.digits)} {self.unit}".strip()


def region_of(name: str, accept: dict) -> Region:
    """What a rule accepts: {"above": x}, {"below": x}, {"between": [low, high]} or {"near": [value, tolerance]}."""
    match accept if len(accept) == 1 else {}:
        case {"above": float() | int() as bound}:
            return Region(low=bound)
        case {"below": float() | int() as bound}:
            return Region(high=bound)
        case {"between": [float() | int() as low, float() | int() as high]}:
            return ordered(name, low, high)
        case {"near": [float() | int() as value, float() | int() as tolerance]}:
            return ordered(name, value - tolerance, value + tolerance)
    raise InputError(f"claim {name}: accept must be above, below, between or near, with numbers, not {accept}")


def ordered(name: str, low: float, high: float) -> Region:
    if low > high:
        raise InputError(f"claim {name}: accept has its lower end, {low:g}, above its upper one, {high:g}")
    return Region(low, high)


def claims_of(entries: list[dict]) -> list[Claim]:
    """The claims of a list of entries; InputError for one that is not as `Claim` has it, or comes twice."""
    claims = []
    for entry in entries:
        try:
            claims.append(Claim(**entry))
        except TypeError as error:
            problem = str(error).removeprefix("Claim.__init__() ")
            raise InputError(f"claim {entry.get('id', '?')}: {problem}") from error
    names = [claim.id for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"claim {min(twice)}: is there twice")
    return claims


def check(claim: Claim, results: Results) -> dict:
    """The claim with its verdict, as plain values: `measured`, `low` and `high` of the part that speaks most against
    it, all `parts` with their own verdicts, the `reason`, and what the verdict would be `otherwise`. NaN where nothing
    is known."""
    told = {name: getattr(claim, name) for name in ("id", "topic", "kind", "statement", "paper", "source", "figure")}
    told |= {name: getattr(claim, name) for name in ("unit", "digits", "accepted", "why", "against", "note")}
    told |= {"region": [claim.region.low, claim.region.high]}
    try:
        results = results.of(claim.figure)
        parts = MEASURES[claim.measure](results, **claim.of)
        if not parts:
            raise NotRunError("no network or training of this configuration is what the claim is about")
    except NotRunError as missing:
        nothing = dict.fromkeys(("measured", "low", "high"), math.nan)
        return {
            **told,
            **nothing,
            "parts": [],
            "part": "",
            "verdict": NOT_RUN,
            "because": "",
            "otherwise": "",
            "reason": str(missing),
        }
    except InputError as damaged:
        raise InputError(f"claim {claim.id}: {damaged}") from damaged
    verdicts = [claim.region.verdict(part) for part in parts]
    obstacle = OBSTACLES[claim.obstacle](results, claim.region, **claim.of) if claim.obstacle else ""
    worst = weakest(parts, claim.region)
    verdict = NOT_COMPARABLE if obstacle else overall(verdicts)
    return {
        **told,
        "part": worst.label,
        "measured": worst.value,
        "low": worst.low,
        "high": worst.high,
        "parts": [vars(part) | {"verdict": verdict} for part, verdict in zip(parts, verdicts, strict=True)],
        "verdict": verdict,
        "because": because(verdict, verdicts),
        "otherwise": otherwise(claim, parts, verdict),
        "reason": obstacle or reason(claim, parts),
    }


def otherwise(claim: Claim, parts: list[Part], verdict: str) -> str:
    """What the verdict would be without the obstacle, or by the estimates alone where intervals leave it open; "" where
    neither stands in the way."""
    if verdict == NOT_COMPARABLE:
        return overall([claim.region.verdict(part) for part in parts])
    if verdict == UNDECIDED:
        return overall([claim.region.by_estimate(part) for part in parts])
    return ""


def reason(claim: Claim, parts: list[Part]) -> str:
    """Every part beside what the rule accepts."""
    shown = "; ".join(f"{part.label}: {part_text(part, claim.digits)}" for part in parts)
    return f"{shown}; accepted: {claim.accepted}"


def part_text(part: Part, digits: int) -> str:
    """A measurement with its interval, or why it has none."""
    if math.isnan(part.value):
        return part.absent
    alone = " (too few runs or seeds for an interval)" if math.isnan(part.low) else ""
    return with_interval(part.value, part.low, part.high, digits) + alone
