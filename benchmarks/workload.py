"""A day of an engine, in small: which commands come, what they lock, and for how long.

`ovirt_commands.csv` has the 171 commands of oVirt's engine that declare locks: their scope, whether
they wait, and the groups they lock. What it does not have is invented here and stands in the tables
below: how many entities of a group there are, how many of them one command locks, how often
commands on a group come, and how long a command takes. The same seed gives the same day.

Ids are drawn with a skew (a few entities are popular), and never twice in one request. A scope of
`None` means that the original never takes the declared locks; here they are taken for the
execution.
"""

import csv
import heapq
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Key = tuple[str, str]
TABLE = Path(__file__).with_name("ovirt_commands.csv")


class Group(NamedTuple):
    """How a group of entities is used.

    Attributes:
        entities: How many there are; 0 if each command makes a new one.
        at_once: How many of them one request locks, at least and at most.
        weight: How often commands that lock it first come, beside other groups.
    """

    entities: int
    at_once: tuple[int, int] = (1, 1)
    weight: float = 1.0


# A data centre of 100 hosts.
GROUPS = {
    "VM": Group(2000, weight=40),
    "DISK": Group(5000, at_once=(1, 4), weight=20),
    "VM_NAME": Group(0, weight=10),
    "VM_DISK_BOOT": Group(2000, weight=5),
    "TEMPLATE": Group(40, weight=4),
    "VDS": Group(100, weight=4),
    "VDS_FENCE": Group(100, weight=1),
    "HOST_NETWORK": Group(100, weight=3),
    "STORAGE": Group(30, weight=3),
    "POOL": Group(3, weight=0.2),
    "VM_POOL": Group(20, weight=1),
    "PROVIDER": Group(4, weight=2),
    "NETWORK": Group(60, weight=2),
    "OVF_UPDATE": Group(3, weight=1),
    "GLUSTER": Group(6, weight=4),
    "GLUSTER_SNAPSHOT": Group(10, weight=1),
    "GLUSTER_GEOREP": Group(10, weight=0.5),
    "TEMPLATE_NAME": Group(0),
    "VM_POOL_NAME": Group(0),
}
OTHER = Group(50)

# Commands that lock many of something.
AT_ONCE = {
    ("UpdateCluster", "VM"): (50, 150),
    ("UpdateCluster", "TEMPLATE"): (2, 5),
    ("RemoveVmPool", "VM"): (10, 40),
    ("UpdateStorageServerConnection", "STORAGE"): (1, 3),
    ("UpdateStorageServerConnection", "DISK"): (20, 80),
}
# A master domain is one in so many; only then the pool is locked exclusively.
MASTER_DOMAIN = 0.1

# Seconds a command takes, as the median of a log-normal distribution.
EXECUTION = 0.4
TASKS = 20.0
SIGMA = 1.0
TIMEOUT = 1.0


@dataclass(frozen=True)
class Declared:
    """A row of the table."""

    command: str
    scope: str
    wait: str
    exclusive: tuple[str, ...]
    shared: tuple[str, ...]
    exclusive_message: str
    shared_message: str

    @property
    def first_group(self) -> str:
        """The group that says how often it comes."""
        return (self.exclusive or self.shared)[0]


@dataclass(frozen=True)
class Request:
    """A command that comes, with the keys it locks.

    Attributes:
        arrival: Seconds after the start.
        duration: Seconds for which it holds its locks.
        timeout: Seconds it would wait: 0 not at all, None for ever.
    """

    command: str
    exclusive: tuple[Key, ...]
    shared: tuple[Key, ...]
    exclusive_message: str
    shared_message: str
    arrival: float
    duration: float
    timeout: float | None


class Step(NamedTuple):
    """One step of a replay: request `number` comes, or gives back what it has got."""

    is_arrival: bool
    number: int


def declared() -> list[Declared]:
    """Returns: the rows of the table."""
    with TABLE.open(newline="") as file:
        return [
            Declared(
                row["command"],
                row["scope"],
                row["wait"],
                tuple(row["exclusive"].split("+")) if row["exclusive"] else (),
                tuple(row["shared"].split("+")) if row["shared"] else (),
                row["exclusive_message"],
                row["shared_message"],
            )
            for row in csv.DictReader(file)
        ]


def requests(n: int, *, seed: int, per_second: float) -> list[Request]:
    """Returns: `n` requests in the order in which they come, `per_second` on average."""
    return list(_Day(seed, per_second).requests(n))


class _Day:
    def __init__(self, seed: int, per_second: float) -> None:
        self._random = random.Random(seed)
        self._per_second = per_second
        self._n_new = 0
        self._commands = declared()
        alike = Counter(command.first_group for command in self._commands)
        self._weights = [
            GROUPS.get(command.first_group, OTHER).weight / alike[command.first_group]
            for command in self._commands
        ]

    def requests(self, n: int) -> Iterator[Request]:
        now = 0.0
        for command in self._random.choices(self._commands, self._weights, k=n):
            now += self._random.expovariate(self._per_second)
            yield self._request(command, now)

    def _request(self, command: Declared, now: float) -> Request:
        exclusive_groups, shared_groups = set(command.exclusive), set(command.shared)
        if "POOL" in exclusive_groups & shared_groups:
            is_master = self._random.random() < MASTER_DOMAIN
            (shared_groups if is_master else exclusive_groups).discard("POOL")
        taken: set[Key] = set()
        exclusive = self._keys(command.command, sorted(exclusive_groups), taken)
        shared = self._keys(command.command, sorted(shared_groups), taken)
        median = TASKS if command.scope.startswith("Command") else EXECUTION
        return Request(
            command.command,
            exclusive,
            shared,
            command.exclusive_message,
            command.shared_message,
            now,
            median * self._random.lognormvariate(0, SIGMA),
            {"no": 0.0, "forever": None, "timeout": TIMEOUT}[command.wait],
        )

    def _keys(self, command: str, groups: Sequence[str], taken: set[Key]) -> tuple[Key, ...]:
        keys = []
        for group in groups:
            usage = GROUPS.get(group, OTHER)
            low, high = AT_ONCE.get((command, group), usage.at_once)
            for _ in range(self._random.randint(low, high)):
                key = (group, self._entity(group, usage.entities))
                if key not in taken:
                    taken.add(key)
                    keys.append(key)
        return tuple(keys)

    def _entity(self, group: str, n: int) -> str:
        if n == 0:
            self._n_new += 1
            return f"{group.lower()}-new-{self._n_new}"
        return f"{group.lower()}-{int(n * self._random.random() ** 2)}"


def replay(day: Sequence[Request]) -> tuple[list[Step], set[int]]:
    """Plays the day in simulated time, with nobody waiting.

    Returns:
        The steps in order, and the numbers of the requests that must be refused.
    """
    steps: list[Step] = []
    refused: set[int] = set()
    ends: list[tuple[float, int]] = []
    exclusive: set[Key] = set()
    shared: Counter[Key] = Counter()

    def give_back(until: float) -> None:
        while ends and ends[0][0] <= until:
            _, index = heapq.heappop(ends)
            steps.append(Step(False, index))
            exclusive.difference_update(day[index].exclusive)
            for key in day[index].shared:
                shared[key] -= 1

    for index, request in enumerate(day):
        give_back(request.arrival)
        steps.append(Step(True, index))
        if any(key in exclusive for key in request.exclusive + request.shared) or any(
            shared[key] for key in request.exclusive
        ):
            refused.add(index)
            continue
        exclusive.update(request.exclusive)
        shared.update(request.shared)
        heapq.heappush(ends, (request.arrival + request.duration, index))
    give_back(float("inf"))
    return steps, refused
