"""What is known of each Celery task: records in Redis, changed atomically from both sides.

The records of one engine are the fields of one hash, so that they are read in one round trip. A
record says `queued`; then `claimed`, by the run of a worker; then `ended`. A task whose record is
missing or has ended can never be claimed again, however many messages for it are about.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

__all__ = ["Records", "RecordsLostError"]

_EPOCH = ""
"""The field that tells whether the hash is still the one that was there before; no task id."""

# ARGV: task id, start id, the field of the epoch. Returns the start id of the record, another one
# if there was a record, and the epoch.
_CREATE = """
redis.call('HSETNX', KEYS[1], ARGV[1], cjson.encode({state='queued', start=ARGV[2]}))
local record = cjson.decode(redis.call('HGET', KEYS[1], ARGV[1]))
return {record.start, redis.call('HGET', KEYS[1], ARGV[3]) or ''}
"""

# ARGV: task id. Returns 1 if the task can never run from now on.
_WITHDRAW = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then return 1 end
if cjson.decode(raw).state ~= 'queued' then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""

# ARGV: task id, run id, retries, 1 if it may run again, worker. Returns 1 if it is to run.
_CLAIM = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then return 0 end
local record = cjson.decode(raw)
local retries = tonumber(ARGV[3])
if record.state == 'ended' then return 0 end
if record.run == ARGV[2] then return 1 end
if record.is_stopped then
  redis.call('HSET', KEYS[1], ARGV[1],
    cjson.encode({state='ended', start=record.start, ok=false, detail='stopped'}))
  return 0
end
if record.state == 'claimed' and retries <= record.retries then
  if ARGV[4] ~= '1' then return 0 end
  record.is_repeated = true
end
record.state = 'claimed'
record.run = ARGV[2]
record.retries = retries
record.worker = ARGV[5]
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(record))
return 1
"""

# ARGV: task id, run id or '' for whichever, 1 if it succeeded, detail. Returns 1 if it has ended.
_END = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then return 0 end
local record = cjson.decode(raw)
if record.state == 'ended' then return 1 end
if ARGV[2] ~= '' and record.run ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1],
  cjson.encode({state='ended', start=record.start, ok=ARGV[3] == '1', detail=ARGV[4]}))
return 1
"""

# ARGV: task id. Returns 1 if a worker has claimed it and has to be told.
_STOP = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then return 0 end
local record = cjson.decode(raw)
if record.state == 'ended' then return 0 end
if record.state == 'queued' then
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(
    {state='ended', start=record.start, ok=false, detail='stopped before it began'}))
  return 0
end
record.is_stopped = true
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(record))
return 1
"""


class RecordsLostError(RuntimeError):
    """Redis has lost the records since this process first saw them."""


class Records:
    """The records of one engine's tasks. All methods block for one round trip.

    Args:
        client: Of redis-py, its answers not decoded. Its errors are raised.
        key: Where the hash is.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._epoch: bytes | None = None

    def create(self, task_id: str) -> None:
        """Makes a record, `queued`.

        Raises:
            FileExistsError: There is one.
            RecordsLostError: There may have been one. Now there is; it is to be withdrawn.
        """
        self._begin_epoch()
        start_id = uuid.uuid4().hex  # an answer may be lost, and the client ask again
        found, epoch = self._call(_CREATE, task_id, start_id, _EPOCH)
        self._check_epoch(epoch)
        if found != start_id.encode():
            raise FileExistsError(f"there is a task {task_id}")

    def withdraw(self, task_id: str) -> bool:
        """Drops the record of a task that no worker has claimed: then none ever will.

        Returns:
            False if the task has been claimed or has ended.
        """
        return bool(self._call(_WITHDRAW, task_id))

    def claim(
        self, task_id: str, run_id: str, *, retries: int, may_repeat: bool, worker: str
    ) -> bool:
        """Takes a task for a run of it; whether it is to run.

        Args:
            task_id: The task.
            run_id: New for each run. Claiming again with the same one says the same.
            retries: How often the task itself has asked to be tried again. More than before: it
                goes on.
            may_repeat: Whether it may run though it has been claimed.
            worker: Who, for people.
        """
        arguments = (run_id, str(retries), "1" if may_repeat else "0", worker)
        return bool(self._call(_CLAIM, task_id, *arguments))

    def end(self, task_id: str, run_id: str, *, succeeded: bool, detail: str) -> bool:
        """Notes how a run has ended, unless another run has claimed the task since.

        Args:
            task_id: The task.
            run_id: As claimed; empty for whichever.
            succeeded: Whether the task has done its work.
            detail: Why not.

        Returns:
            Whether the task has ended; False also if it is unknown.
        """
        return bool(self._call(_END, task_id, run_id, "1" if succeeded else "0", detail))

    def stop(self, task_id: str) -> bool:
        """Ends a task that no worker has claimed, and lets nobody claim it again.

        Returns:
            Whether a worker has claimed it, and has to be told.
        """
        return bool(self._call(_STOP, task_id))

    def drop(self, task_id: str) -> None:
        """Forgets a task. No worker will ever claim it."""
        self._client.hdel(self._key, task_id)

    def ids(self) -> list[str]:
        """All tasks that have a record."""
        return [field.decode() for field in self._client.hkeys(self._key) if field.decode()]

    def read(
        self, task_ids: Iterable[str], other_keys: Iterable[str]
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        """Reads many records, and values of other keys, in one round trip.

        Returns:
            The records as JSON, None for those that are missing; and the values.

        Raises:
            RecordsLostError: What is missing may be lost.
        """
        self._begin_epoch()
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._key, [_EPOCH, *task_ids])
        keys = list(other_keys)
        if keys:
            pipe.mget(keys)
        (epoch, *records), *values = pipe.execute()
        self._check_epoch(epoch)
        return records, values[0] if values else []

    def _begin_epoch(self) -> None:
        if self._epoch is None:
            self._client.hsetnx(self._key, _EPOCH, json.dumps(uuid.uuid4().hex))
            self._epoch = self._client.hget(self._key, _EPOCH)

    def _check_epoch(self, epoch: bytes | None) -> None:
        if epoch != self._epoch:
            raise RecordsLostError(
                f"the task records {self._key} were lost: what has become of the tasks is not "
                "known until the engine is opened again"
            )

    def _call(self, script: str, *arguments: str) -> Any:
        return self._client.eval(script, 1, self._key, *arguments)
