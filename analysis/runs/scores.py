"""The score of every single query of a run, where it is known: what paired tests over queries need."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_DIGITS = 6  # of a score in a bundle
_HITS = {"0": 0.0, "1": 1.0}


@dataclass(frozen=True)
class Scores:
    """Scores of one run. `queries`: a fingerprint of its queries' ids, equal for runs on the same ones; `by_metric`:
    (n,) scores in the order of the ids."""

    queries: str = ""
    by_metric: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, metric: str, mean: float) -> np.ndarray | None:
        """The scores by a metric, if its value is their mean; some metrics are of all answers together."""
        scores = self.by_metric.get(metric)
        known = scores is not None and math.isclose(float(scores.mean()), mean, rel_tol=1e-6, abs_tol=1e-9)
        return scores if known else None

    def stored(self) -> dict[str, Any] | None:
        """As a bundle has them: hits and misses as a text of 1 and 0, other scores as numbers."""
        if not self.by_metric:
            return None
        return {"queries": self.queries, "by_metric": {name: _packed(of) for name, of in self.by_metric.items()}}

    @classmethod
    def of_stored(cls, stored: Mapping[str, Any] | None) -> "Scores":
        """Of a bundle's line; empty if it has none. ValueError, KeyError or TypeError if they are damaged."""
        if not stored:
            return cls()
        return cls(str(stored["queries"]), {name: _unpacked(of) for name, of in stored["by_metric"].items()})

    @classmethod
    def of_predictions(cls, path: Path) -> "Scores":
        """Of predictions.jsonl; empty if there is none, or it is not of this version."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return cls._of_rows(sorted({str(row["id"]): row["scores"] for row in map(json.loads, lines)}.items()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @classmethod
    def _of_rows(cls, rows: list[tuple[str, Mapping[str, float]]]) -> "Scores":
        names = rows[0][1] if rows else {}
        complete = [name for name in names if all(name in scores for _, scores in rows)]
        by_metric = {name: np.array([float(scores[name]) for _, scores in rows]) for name in complete}
        return cls(_fingerprint(name for name, _ in rows), by_metric)


ScoresOf = Callable[[str], Scores]  # of the run at a path


def no_scores(_: str) -> Scores:
    """For runs of which only the means are known."""
    return Scores()


def _fingerprint(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def _packed(scores: np.ndarray) -> str | list[float]:
    if np.isin(scores, (0.0, 1.0)).all():
        return "".join("1" if score else "0" for score in scores)
    return [float(f"{score:.{_DIGITS}g}") for score in scores]


def _unpacked(stored: str | list[float]) -> np.ndarray:
    return np.array([_HITS[one] for one in stored] if isinstance(stored, str) else stored, dtype=float)
