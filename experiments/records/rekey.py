"""Give runs of earlier versions the names that this version would give them, so that the runner finds them.

    python -m experiments.records.rekey FOLDER... [--dry-run]

Works on the run folders and the bundles (.jsonl) in and below the folders; a bundle itself may be given, too. Brings
record.json and .hydra/run.json to the present schema, renames the run's folder, and rewrites budgets that match another
run (`match:RUN`), whose name is part of theirs. Prints one line per run. Repeating it does no harm, also after an
interruption, and it never overwrites another run.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.records.bundle import BundledRun, bundles
from experiments.records.files import CLAIM, RECORD, write_atomically
from experiments.records.names import RUN_NAME, identity, run_name, spends
from experiments.records.upgrade import SCHEMA, upgraded, upgraded_config

_MATCH = "match:"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError)
Names = Mapping[str, str]  # what a run was called -> what it is called in this version


@dataclass(frozen=True)
class StoredRun:
    """A run as it was found.

    `where` is what messages call it, `folder` the name of its folder. `config` is its configuration in the present
    form; of an unfinished run it is the part that decides the result, and so the name.
    """

    where: str
    folder: str
    run_id: str
    config: Mapping[str, Any]
    present: bool  # it was stored in the present form already

    @property
    def match(self) -> str:
        """The run, or the path, that its budget matches; empty if it matches none."""
        return _matched(spends(self.config["method"]).get("budget"))

    @property
    def names_in_budgets(self) -> set[str]:
        """Names of runs in its budgets, the shared one included, which its method may not read."""
        return {*self.match.split("/"), *_matched(self.config.get("budget")).split("/")}

    def obstacle(self, names: Names) -> str:
        """Why its present name is not known; empty if it is."""
        named = RUN_NAME.fullmatch(self.match) is not None
        if self.present or not named or self.match in names or self.match in names.values():
            return ""
        return f"its budget matches {self.match}, which is not in these folders; name the folder of that run, too"

    def new_folder(self, names: Names) -> str:
        """The name of its folder. A folder that was not named after the run keeps its name."""
        return names[self.run_id] if self.folder == self.run_id else self.folder

    def line(self, names: Names, *, changed: bool) -> str:
        """What is printed about it."""
        new = names[self.run_id]
        return f"{self.where}: {self.run_id} -> {new}" if changed else f"{self.where}: up to date"

    def left(self, reason: str) -> str:
        """What is printed if nothing can be done."""
        return _left(self.where, reason)


def new_names(runs: Iterable[StoredRun]) -> dict[str, str]:
    """What each run is called in this version.

    Runs that match another one come last, as the other's present name is part of their identity.
    """
    names: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: bool(run.match)):
        names[run.run_id] = run_name(rematched(run.config, names))
    return names


def rematched(config: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The configuration with the present names of runs in its budgets."""
    found = dict(config)
    if "budget" in found:
        found["budget"] = _rematched(found["budget"], names)
    method, part = found["method"], spends(found["method"])
    if "budget" in part:
        renamed = {**part, "budget": _rematched(part["budget"], names)}
        found["method"] = renamed if part is method else {**method, "allocation": renamed}
    return found


def _matched(budget: object) -> str:
    return budget.removeprefix(_MATCH) if isinstance(budget, str) and budget.startswith(_MATCH) else ""


def _rematched(budget: object, names: Names) -> object:
    """`match:RUN`, or a path such as `match:FOLDER/RUN/record.json`, with RUN's present name; else as it is."""
    match = _matched(budget)
    return _MATCH + "/".join(names.get(part, part) for part in match.split("/")) if match else budget


def new_record(stored: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The record in the present schema, under the run's present name."""
    record = upgraded(dict(stored))
    return {**record, "run_id": names[record["run_id"]], "config": rematched(record["config"], names)}


def _of_record(where: str, folder: str, stored: dict[str, Any]) -> StoredRun:
    record = upgraded(stored)
    if record["schema"] != SCHEMA:
        raise ValueError(f"its schema is {record['schema']}")
    run = StoredRun(where, folder, record["run_id"], record["config"], present=record is stored)
    run_name(run.config)  # fails now, not half-way, if the configuration is damaged
    return run


class FolderOfRun:
    """A run in a folder of its own, finished or not."""

    def __init__(self, path: Path) -> None:
        """OSError if its files cannot be read, one of `_DAMAGED` if something is wrong with them."""
        self._path = path.resolve()
        self._record = _stored(path / RECORD)
        self._claim = _stored(path / CLAIM)
        self._run = self._found(str(path))
        self.runs = [self._run]

    def _found(self, where: str) -> StoredRun:
        if self._record:
            return _of_record(where, self._path.name, self._record)
        begun = self._claim["identity"]
        config = upgraded_config(begun)
        run_name(config)
        return StoredRun(where, self._path.name, self._claim["run_id"], config, present=config == begun)

    def rekey(self, names: Names, *, dry: bool) -> Iterator[str]:
        """Rename the run, unless `dry`; gives the line to print."""
        run, path = self._run, self._path
        target = path.with_name(run.new_folder(names))
        taken = f"{target} exists already" if target != path and target.exists() else ""
        if obstacle := run.obstacle(names) or taken:
            yield run.left(obstacle)
            return
        record = new_record(self._record, names) if self._record else {}
        claim = self._new_claim(names)
        changed = (target, record, claim) != (path, self._record, self._claim)
        if changed and not dry:
            # The folder first: until its files are written, a repeated call still finds the run's old name in them.
            path.rename(target)
            _write(target / CLAIM, claim)
            _write(target / RECORD, record)
        yield run.line(names, changed=changed)

    def _new_claim(self, names: Names) -> dict[str, Any]:
        run_id = self._run.run_id
        if self._claim.get("run_id") != run_id:
            return self._claim  # there is none, or it is of another run
        return {**self._claim, "run_id": names[run_id], "identity": identity(rematched(self._run.config, names))}


class BundleOfRuns:
    """The runs of a bundle. Lines that are not runs stay as they are, and are named."""

    def __init__(self, path: Path) -> None:
        """OSError or ValueError if it cannot be read."""
        self._path = path
        self._lines = path.read_text(encoding="utf-8").splitlines()
        self._found: dict[int, tuple[StoredRun, BundledRun]] = {}  # by the place of the line
        self._damaged: list[str] = []
        for at, line in enumerate(self._lines):
            if line.strip():
                self._read(at, line)
        self.runs = [run for run, _ in self._found.values()]

    def _read(self, at: int, line: str) -> None:
        where = f"{self._path}:{at + 1}"
        try:
            bundled = BundledRun.of(line)
            self._found[at] = _of_record(where, bundled.folder, bundled.record), bundled
        except _DAMAGED as error:
            self._damaged.append(_left(where, f"it is not a run that this version reads ({error})"))

    def rekey(self, names: Names, *, dry: bool) -> Iterator[str]:
        """Rename the runs, unless `dry`; gives the lines to print."""
        lines = [*self._lines]
        for at, (run, bundled) in self._found.items():
            if obstacle := run.obstacle(names) or self._taken(run, names):
                yield run.left(obstacle)
                continue
            renamed = BundledRun(run.new_folder(names), new_record(bundled.record, names), bundled.layers)
            if renamed != bundled:
                lines[at] = renamed.line()
            yield run.line(names, changed=renamed != bundled)
        yield from self._damaged
        if lines != self._lines and not dry:
            write_atomically(self._path, "".join(f"{line}\n" for line in lines))

    def _taken(self, run: StoredRun, names: Names) -> str:
        folder = run.new_folder(names)
        others = {other.folder for other in self.runs if other is not run}
        return f"the bundle has another run called {folder}" if folder in others else ""


def _stored(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if there is no file."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is not an object")
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    if content:
        write_atomically(path, json.dumps(content, indent=2) + "\n")


def _left(where: str, reason: str) -> str:
    return f"{where}: left as it is, because {reason}"


Place = FolderOfRun | BundleOfRuns


def find(roots: Sequence[Path]) -> tuple[list[Place], list[str]]:
    """Where runs are in and below the roots, each once, and a line for everything that cannot be read."""
    folders = {path.parent.resolve(): path.parent for root in roots for path in root.rglob(RECORD)}
    folders |= {path.parents[1].resolve(): path.parents[1] for root in roots for path in root.rglob(CLAIM)}
    files = {path.resolve(): path for root in roots for path in bundles(root)}
    found: list[Place] = []
    problems = []
    for path in sorted([*folders.values(), *files.values()], key=str):
        try:
            found.append(BundleOfRuns(path) if path.is_file() else FolderOfRun(path))
        except (OSError, *_DAMAGED) as error:
            problems.append(_left(str(path), f"it cannot be read ({type(error).__name__}: {error})"))
    return found, problems


def rekey(roots: Sequence[Path], *, dry: bool) -> list[str]:
    """Rename all runs in and below the roots; gives the lines to print."""
    found, lines = find(roots)
    names = new_names(run for place in found for run in place.runs)
    named = {name for place in found for run in place.runs for name in run.names_in_budgets}
    # Runs that others name come last: if this is interrupted, their old names can still be found.
    for place in sorted(found, key=lambda place: any(run.run_id in named for run in place.runs)):
        lines.extend(place.rekey(names, dry=dry))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no run, or one was left as it is."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.records.rekey", description="Rename runs of earlier versions."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, folders that hold some, or bundles")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    options = parser.parse_args(arguments)
    missing = [str(folder) for folder in options.folders if not folder.exists()]
    if missing:
        print(f"Expected folders of runs, but {', '.join(missing)} does not exist.", file=sys.stderr)
        return 1
    lines = rekey(options.folders, dry=options.dry_run)
    if not lines:
        print(f"Expected runs in {', '.join(map(str, options.folders))}, but found none.", file=sys.stderr)
        return 1
    print("\n".join(lines))
    if options.dry_run:
        print("Nothing was changed (--dry-run).")
    return int(any(": left as it is, " in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
