"""What the ledger of killed engines must say.

Lines are in the order in which they were written, by all processes. An execution, a task and an end
action last from one line to another; what an engine did lasts no longer than the engine. A task's
lines are written by the program itself, so between them it is alive for certain.
"""

from __future__ import annotations

import collections
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class LedgerError(AssertionError):
    """Something was lost, left, or done twice."""


@dataclass
class Activity:
    """Something that goes on under locks."""

    what: str
    command: str
    owner: str
    keys: dict[str, str]
    began: int
    ended: int | None = None
    in_engine: bool = True

    def conflicts_with(self, other: Activity) -> str | None:
        """The key that both need, not both shared; None if there is none."""
        if self.owner == other.owner:
            return None
        for key in self.keys.keys() & other.keys.keys():
            if "exclusive" in (self.keys[key], other.keys[key]):
                return key
        return None

    def __str__(self) -> str:
        return f"{self.what} of {self.command} (line {self.began})"


@dataclass
class Story:
    """What became of one command."""

    wanted_tasks: int = 0
    tasks: int = 0
    ended_tasks: list[int | str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)  # end actions that came to their end
    n_ends_begun: int = 0
    results: list[str] = field(default_factory=list)
    children: dict[str, str] = field(default_factory=dict)
    is_begun: bool = False
    is_executed: bool = False


class Checker:
    """Goes through a ledger from the beginning to the end, once."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)
        self.counts: collections.Counter[str] = collections.Counter()
        self.stories: dict[str, Story] = collections.defaultdict(Story)
        self._activities: list[Activity] = []
        self._live: dict[str, Activity] = {}

    @classmethod
    def of_file(cls, path: Path) -> Checker:
        text = path.read_text(encoding="utf-8")
        return cls(json.loads(line) for line in text.splitlines())

    def check(self) -> None:
        """Checks what happened.

        Raises:
            LedgerError: Two were active in conflict, or a lock was lost or left.
        """
        for number, line in enumerate(self.lines, 1):
            getattr(self, "_on_" + line["event"].replace("-", "_"))(number, line)
        self._check_what_was_seen()

    def check_end(self, directory: Path) -> None:
        """Checks that everything has come to its end, once and for all, and has left nothing.

        Raises:
            LedgerError: It has not.
        """
        expect(not self._live, f"never ended: {', '.join(map(str, self._live.values()))}")
        with closing(sqlite3.connect(directory / "engine.db")) as connection:
            for table in ("command", "task"):
                rows = connection.execute(f"SELECT * FROM {table}").fetchall()
                expect(not rows, f"rows are left in {table}: {rows}")
            outcomes = dict(connection.execute("SELECT command_id, state FROM outcome"))
        left = sorted(path.name for path in (directory / "tasks").glob("*"))
        expect(not left, f"files of tasks are left: {left}")
        for command, story in self.stories.items():
            _check_story(command, story, outcomes.get(command))

    # -- one method for each event

    def _on_look(self, number: int, line: Line) -> None:
        pass

    def _on_seen(self, number: int, line: Line) -> None:
        for way in ("resumed", "ended", "cleaned"):
            if line["opened"]:
                self.counts[way] += len(line[way])
        expect(not line["set_aside"], f"set aside: {line['set_aside']}")

    def _on_dead(self, number: int, line: Line) -> None:
        for id, activity in list(self._live.items()):
            if activity.in_engine:
                self._end(id, number)

    def _on_over(self, number: int, line: Line) -> None:
        expect(line["held"] == 0, f"{line['held']} keys are held at the end")

    def _on_error(self, number: int, line: Line) -> None:
        raise LedgerError(f"the engine has failed: {line['text']}")

    def _on_execute(self, number: int, line: Line) -> None:
        self.counts["commands"] += 1
        self.stories[line["command"]].is_begun = True
        self.stories[line["command"]].wanted_tasks = line["tasks"]
        self._begin(f"execute {line['command']}", "execution", number, line)

    def _on_executed(self, number: int, line: Line) -> None:
        self.stories[line["command"]].is_executed = True
        self._end(f"execute {line['command']}", number)

    def _on_child(self, number: int, line: Line) -> None:
        self.stories[line["command"]].children[line["child"]] = line["state"]

    def _on_task(self, number: int, line: Line) -> None:
        self.counts["tasks"] += 1
        self.stories[line["command"]].tasks += 1
        self._begin(_task_id(line), "task", number, line, in_engine=False)

    def _on_task_ended(self, number: int, line: Line) -> None:
        self.stories[line["command"]].ended_tasks.append(line["status"])
        if _task_id(line) in self._live:  # stopped while it wrote that it has ended
            self._end(_task_id(line), number)

    def _on_compensate(self, number: int, line: Line) -> None:
        self.counts["compensations"] += 1

    def _on_end(self, number: int, line: Line) -> None:
        self.stories[line["command"]].n_ends_begun += 1
        self._begin(f"end {line['command']}", "end action", number, line)

    def _on_end_raised(self, number: int, line: Line) -> None:
        self._end(f"end {line['command']}", number)

    def _on_end_left(self, number: int, line: Line) -> None:
        self._end(f"end {line['command']}", number)
        story = self.stories[line["command"]]
        story.ends.append(line["how"])
        self.counts["end actions"] += 1
        self.counts["end actions done again"] += len(story.ends) > 1

    def _on_result(self, number: int, line: Line) -> None:
        self.stories[line["command"]].results.append(line["state"])
        self.counts[line["state"]] += 1

    def _begin(
        self, id: str, what: str, number: int, line: Line, *, in_engine: bool = True
    ) -> None:
        new = Activity(
            what, line["command"], line["owner"], line["keys"], number, in_engine=in_engine
        )
        for other in self._live.values():
            key = new.conflicts_with(other)
            expect(key is None, f"{new} and {other} have {key} at a time")
        expect(id not in self._live, f"line {number}: {new} goes on twice at a time")
        self._live[id] = new
        self._activities.append(new)

    def _end(self, id: str, number: int) -> None:
        self._live.pop(id).ended = number

    def _check_what_was_seen(self) -> None:
        """Each look at the locks shows those of all who lived meanwhile, and of no dead one."""
        looked = 0
        reported: set[str] = set()
        reported_at_look: set[str] = set()
        for number, line in enumerate(self.lines, 1):
            if line["event"] == "result" and line["state"] != "running":
                reported.add(line["command"])
            elif line["event"] == "look":
                looked, reported_at_look = number, set(reported)
            elif line["event"] == "seen":
                self.counts["looks"] += 1
                self._check_rows(looked, number, line["rows"], reported_at_look)

    def _check_rows(self, looked: int, seen: int, rows: list[Any], reported: set[str]) -> None:
        held: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
        for key, mode, owner in rows:
            expect(owner not in reported, f"line {seen}: {owner} has ended and holds {key}")
            held[owner, key].add(mode)
        for activity in self._activities:
            if activity.began < looked and (activity.ended is None or activity.ended > seen):
                for key, mode in activity.keys.items():
                    expect(
                        held[activity.owner, key] & {mode, "exclusive"},
                        f"line {seen}: {activity} lives and has lost {key}",
                    )


def _check_story(command: str, story: Story, outcome: str | None) -> None:
    """A command came to one end, and to the right one."""
    if not story.is_begun:
        return  # refused
    hows = set(story.ends)
    expect(len(hows) <= 1, f"{command} has ended in two ways: {story}")
    finals = {state for state in story.results if state != "running"}
    expect(len(finals) <= 1, f"{command} has reported two results: {story}")
    if story.tasks or "running" in story.results:
        expect(hows, f"{command} had tasks and no end action: {story}")
        expect(hows == {outcome}, f"{command} has another outcome, {outcome}: {story}")
    if outcome is not None:
        expect(finals <= {outcome}, f"{command} has reported something else: {story}")
    if not story.is_executed:
        expect("succeeded" not in hows, f"{command} has succeeded before its end: {story}")
    is_well = all(status == 0 for status in story.ended_tasks)
    has_children = bool(set(story.children.values()) & {"running", "failed"})  # it may fail
    if not is_well:
        expect("succeeded" not in hows, f"{command} has succeeded without its tasks: {story}")
    elif "running" in story.results and story.tasks == story.wanted_tasks and not has_children:
        expect(hows == {"succeeded"}, f"{command} has failed for no reason: {story}")


def _task_id(line: Line) -> str:
    return f"task {line['command']}/{line['number']}"


def expect(claim: object, complaint: str) -> None:
    """Raises LedgerError if it is not so."""
    if not claim:
        raise LedgerError(complaint)
