"""Budgets that match another run: what that run is called, and where its record is."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from emloc.errors import UserError
from experiments.records.files import RECORD
from experiments.records.names import spends

_MATCH = "match:"


def located(method: DictConfig, place: Path) -> DictConfig:
    """The method's node, `budget: match:RUN` naming the record of the run called RUN in the folder `place`.

    The budget is the method's or its allocation's. Where RUN is the path of a file or folder, it is left as it is.
    """
    budget = str(spends(method).get("budget"))
    name = budget.removeprefix(_MATCH).strip()
    if budget.startswith(_MATCH) and not name:
        raise UserError(f"Expected budget={_MATCH}RUN, a run or its record.json, but RUN is empty.")
    if not budget.startswith(_MATCH) or Path(name).exists():
        return method
    if not (place / name / RECORD).is_file():
        raise UserError(
            f"Expected budget={budget} to name a record.json, or a finished run beside this one in {place}, but there "
            "is none; do that run first (in a sweep: its method first)."
        )
    matched = method.copy()
    spent: Any = spends(matched)  # a part of the copy, which is changed in place
    spent["budget"] = f"{_MATCH}{place / name / RECORD}"
    return matched
