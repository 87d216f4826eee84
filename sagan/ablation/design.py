"""The design of a plan: what has to be fixed before its runs for a verdict to mean what it says.

`design.json` beside the tables remembers it from the first result on, so that a later change shows in the report.
"""

import json
from typing import Any

from sagan.ablation.plan import Plan
from sagan.ablation.results import ENDED, Row
from sagan.config import UserError
from sagan.config.types import as_text
from sagan.runtime.files import write_atomically

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
    file, now = plan.folder / FILE, design_of(plan)
    if not any(row["status"] in ENDED for row in results):
        return []
    before = known_design(plan)
    if before is None:
        write_atomically(file, lambda f: f.write((json.dumps(now, indent=2) + "\n").encode()))
        return []
    return [f"`{k}` was {as_text(before[k])}, and is now {as_text(v)}" for k, v in now.items() if before[k] != v]


def known_design(plan: Plan) -> dict[str, Any] | None:
    """Return the design of the first results, or None if there are none yet. Raise UserError if its file is damaged."""
    file = plan.folder / FILE
    if not file.is_file():
        return None
    try:
        known = json.loads(file.read_text())
        if not isinstance(known, dict) or known.keys() != design_of(plan).keys():
            raise ValueError(f"expected {', '.join(design_of(plan))}")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({error}); restore it, or delete it to begin with today's design") from error
    return known
