"""Locks around functions: whoever comes second for the same account is refused, or waits.

The keys come from the arguments of each call. Nothing is kept on disk, and no engine is needed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lockcore import LockConflictError
from lockcore.engine import exclusive, locks, shared

balances = {"ann": 100, "bob": 0}


@locks(
    exclusive("ACCOUNT", "source", message="{source} is paying {target}"),
    exclusive("ACCOUNT", "target", message="{source} is paying {target}"),
)
def pay(source: str, target: str, amount: int = 10) -> None:
    """Both accounts are locked together, so two opposite payments cannot block each other."""
    balances[source] -= amount
    balances[target] += amount
    try:
        close(source)
    except LockConflictError as error:
        print("refused:", *error.messages)


@locks(exclusive("ACCOUNT", "name"))
def close(name: str) -> None:
    """Is refused while the account is used: `timeout=` says how long to wait, 0 if not given."""
    del balances[name]


@dataclass
class Account:
    """Somebody's account, as the rest of a program hands it around."""

    name: str


@locks(shared("ACCOUNT", "{account.name}"), timeout=None)
async def report(account: Account) -> str:
    """Any number of readers may run together; each waits for writers without blocking the loop."""
    await asyncio.sleep(0)
    return f"{account.name} has {balances[account.name]}"


async def main() -> None:
    """Pays, reports and closes."""
    pay("ann", "bob", amount=30)
    ann, bob = Account("ann"), Account("bob")
    print(*await asyncio.gather(report(ann), report(bob), report(ann)), sep="\n")
    close("ann")
    print("open:", *balances)


if __name__ == "__main__":
    asyncio.run(main())
