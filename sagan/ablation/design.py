"""The design of a plan: what has to be fixed before its runs for a verdict to mean what it says.

`design.json` beside the tables remembers it from the first result on, so that a later change shows in the report.
"""

from typing import Any

from sagan.ablation.csv_files import Row
from sagan.ablation.memory import remember, remembered
from sagan.ablation.plan import Plan
from sagan.ablation.results import ENDED
from sagan.config.types import as_text

FILE = "design.json"


def design_of(plan: Plan) -> dict[str, Any]:
    """Return what decides which comparisons get a verdict, and by which score."""
    return {
        "baseline": plan.baseline,
        "metric": plan.metric,
        "primary": plan.compared,
        "seeds": plan.seeds,
        "margin": plan.margin,
    }


def changes_of_design(plan: Plan, results: list[Row]) -> list[str]:
    """Return how the design differs from that of the first results, such as "`metric` was fid, and is now recall".

    The first results write the file. Raise UserError if it is damaged.
    """
    if not any(row["status"] in ENDED for row in results):
        return []
    now, before = design_of(plan), known_design(plan)
    if before is None:
        remember(now, plan.folder / FILE)
        return []
    changed = {k: v for k, v in now.items() if in_any_order(before[k]) != in_any_order(v)}
    return [f"`{k}` was {as_text(before[k])}, and is now {as_text(v)}" for k, v in changed.items()]


def in_any_order(value: Any) -> Any:
    """Return a list sorted, and anything else unchanged."""
    return sorted(value, key=str) if isinstance(value, list) else value


def known_design(plan: Plan) -> dict[str, Any] | None:
    """Return the design of the first results, or None if there are none yet. Raise UserError if its file is damaged."""
    return remembered(plan.folder / FILE, "restore it, or delete it to begin with today's design", design_of(plan))
