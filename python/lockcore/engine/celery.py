"""Tasks that Celery runs: `pip install lockcore[celery]`.

`CeleryTasks` is the back end for the engine; `FollowedTask` is the class of the tasks, for the
workers. Between the two is one record for each task, in the Redis of the result back end: nothing
is published before its record is there, and nothing runs without it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import celery
from celery import states
from celery.backends.redis import RedisBackend
from celery.canvas import Signature
from celery.exceptions import Ignore

from lockcore.engine._celery_records import Records
from lockcore.engine._celery_status import status_of
from lockcore.engine._reporting import reporter
from lockcore.engine._tasks import TaskState, TaskStatus
from lockcore.engine._turns import Turns

__all__ = ["CeleryTasks", "FollowedTask"]

log = logging.getLogger("lockcore.engine")

LOOKS = 1000
"""Of so many running tasks what Celery has stored is read in one call."""

HEADER = "lockcore_records"
"""Of the message: the key of the records of the engine that sent it."""


class CeleryTasks:
    """Has tasks run by Celery workers: `start_task(copy, source, target)`.

    A task is a Celery task, its name, or a signature such as `copy.s(source).set(queue="io")`. Its
    class is `FollowedTask`, also where the workers run, most easily for all tasks of the app:
    `Celery(..., task_cls="lockcore.engine.celery:FollowedTask")`. It succeeds when it returns, and
    fails when it raises, is revoked, expires, exceeds its time limit or loses its process.

    The broker may be any that Celery knows. The result back end is Redis or Valkey, which must keep
    what it has been told: `appendonly yes`, no eviction. Then, and whoever is killed when:

    * A task that the engine does not find here does not run and never will. A message of it that
      is still about is dropped by the worker that gets it.
    * A task runs once, although brokers may deliver a message twice; unless it has `acks_late`,
      which asks for it to run again where a delivery seems to be lost.
    * A start that was cut off between the record and the message leaves a task that is `"queued"`
      until it is stopped, which is what the engine does then.

    A worker that is killed as a whole, with its main process, cannot say so. With `acks_late` the
    broker delivers the message again, and the task goes on being followed. Without, it counts as
    running, and its command keeps its locks, until someone who knows better calls `give_up`.

    Args:
        app: The Celery app.
        name: Tells the tasks of this engine from those of others on the same result back end.
            Engines that run at the same time need one each.

    Raises:
        ValueError: The result back end is not Redis, or the app runs its tasks in this process.
    """

    def __init__(self, app: celery.Celery, *, name: str = "engine") -> None:
        if not isinstance(app.backend, RedisBackend):
            raise ValueError(f"the result back end of the app must be Redis, not {app.backend!r}")
        if app.conf.task_always_eager:
            raise ValueError("with task_always_eager there are no workers to follow")
        self._app = app
        self._backend = app.backend
        self._key = f"lockcore-tasks-{name}"
        self._records = Records(app.backend.client, self._key)
        self._mutex = threading.Lock()
        self._doubtful: set[str] = set()  # their start has failed, and they might run
        self._withdrawn: set[str] = set()  # they never will; until somebody has asked
        self._turns = Turns(LOOKS)
        # Record, what Celery has stored, and what both say: most have not changed since.
        self._seen: dict[str, tuple[bytes, bytes | None, TaskStatus]] = {}

    def start(
        self, task_id: str, task: celery.Task | Signature | str, /, *args: Any, **kwargs: Any
    ) -> None:
        """Publishes a task. Blocks until the broker has it, or Celery has given up trying.

        Raises:
            TypeError: It is no task; or a chain, group or chord; or not a `FollowedTask`.
            FileExistsError: There is a task of that id.
            RuntimeError: Redis has lost the records; see `status`.
            Exception: What Celery, kombu or redis-py raise when the broker or the result back end
                is out of reach or the arguments cannot be serialised.
        """
        signature = self._signature(task, args, kwargs)
        with self._mutex:
            self._withdrawn.discard(task_id)
        try:
            self._records.create(task_id)
            signature.apply_async(task_id=task_id, headers=self._headers(signature))
        except FileExistsError:
            raise
        except BaseException:
            # The broker may have got it, though nobody heard. So make sure that it never runs.
            with self._mutex:
                self._doubtful.add(task_id)
            if self._withdraw(task_id):
                raise
            log.warning("task %s was published although Celery said it was not", task_id)

    def status(self, task_ids: Iterable[str] | None = None, /) -> dict[str, TaskStatus]:
        """How those tasks stand, or all of this engine; see `TaskBackend`. One round trip.

        Of a long list of running tasks each call reads the records, and what Celery has stored
        only of a part. So progress, and the death of a process of a worker, is seen some calls
        later.

        Raises:
            RuntimeError: Redis has lost the records. Until the engine is opened again, no task is
                taken for one that does not run, and none is started.
        """
        with self._mutex:
            doubtful = list(self._doubtful)
        for task_id in doubtful:
            self._withdraw(task_id)
        ids = self._records.ids() if task_ids is None else self._not_withdrawn(task_ids)
        if not ids:
            return {}
        in_turn = ids if task_ids is None else self._turns.take(ids, self._seen)
        records, metas = self._records.read(ids, map(self._backend.get_key_for_task, in_turn))
        read = dict(zip(in_turn, metas, strict=True))
        return {
            task_id: self._status(task_id, record, read)
            for task_id, record in zip(ids, records, strict=True)
            if record is not None
        }

    def stop(self, task_id: str, /) -> None:
        """Lets a task that has not begun never begin; has the process of one that runs killed.

        Only workers with the prefork pool can kill a task, and not what the task has started. One
        that ends all the same, in its own time, counts as it has ended.
        """
        if self._records.stop(task_id):
            # Celery says "revoked" when it has sent the signal: no task may outlive that.
            self._app.control.revoke(task_id, terminate=True, signal="SIGKILL")

    def forget(self, task_id: str, /) -> None:
        """Drops the record and the result of a task.

        Raises:
            ValueError: The task has not ended.
        """
        status = self.status([task_id]).get(task_id)
        if status is not None and status.state is TaskState.RUNNING:
            raise ValueError(f"task {task_id} is running")
        # The result first: without its record the task is unknown, and nobody would come again.
        self._backend.delete(self._backend.get_key_for_task(task_id))
        self._records.drop(task_id)
        with self._mutex:
            self._seen.pop(task_id, None)

    def give_up(self, task_id: str) -> None:
        """Declares that a task has failed because its worker is gone. Nobody will run it again.

        For operators. If it does run, the locks of its command are released too early: first make
        sure that the worker is dead.
        """
        self._records.end(task_id, "", succeeded=False, detail="given up: its worker is gone")

    def _signature(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
        if isinstance(task, str):
            task = self._app.signature(task)
        elif isinstance(task, celery.Task):
            task = task.s()
        if not isinstance(task, Signature) or task.subtask_type:
            raise TypeError(
                "start_task takes a Celery task, its name or the signature of one task, "
                f"and its arguments, not {task!r}"
            )
        registered = self._app.tasks.get(task.task)
        if registered is not None and not isinstance(registered, FollowedTask):
            raise TypeError(f"the class of the Celery task {task.task} must be FollowedTask")
        return task.clone(args, kwargs)

    def _headers(self, signature: Signature) -> dict[str, Any]:
        return {**(signature.options.get("headers") or {}), HEADER: self._key}

    def _withdraw(self, task_id: str) -> bool:
        """Whether a task whose start has failed can never run. Raises if that is not known."""
        is_withdrawn = self._records.withdraw(task_id)
        with self._mutex:
            self._doubtful.discard(task_id)
            if is_withdrawn:
                self._withdrawn.add(task_id)
        return is_withdrawn

    def _not_withdrawn(self, task_ids: Iterable[str]) -> list[str]:
        """Those that may be known. Of the others nobody else has to be asked, nor twice."""
        asked = list(task_ids)
        with self._mutex:
            if not self._withdrawn:
                return asked
            ids = [task_id for task_id in asked if task_id not in self._withdrawn]
            self._withdrawn.difference_update(asked)
        return ids

    def _status(self, task_id: str, record: bytes, read: Mapping[str, bytes | None]) -> TaskStatus:
        seen = self._seen.get(task_id)
        meta = read.get(task_id, None if seen is None else seen[1])
        if seen is not None and seen[0] == record and seen[1] == meta:
            return seen[2]
        status = status_of(record, None if meta is None else self._backend.decode(meta))
        self._seen[task_id] = (record, meta, status)
        return status


class FollowedTask(celery.Task):  # type: ignore[misc] # Celery has no types
    """A Celery task that runs only if the engine that sent it still wants it to.

    Sent by anybody else it is like any other. A task that overrides `before_start` or
    `after_return` calls `super()`.
    """

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Claims the task, or has its message dropped. Waits for a Redis that is out of reach."""
        super().before_start(task_id, args, kwargs)
        reporter.set(self._reporter(task_id))
        key = self.request.get(HEADER)
        if key is None:
            return
        delivery = self.request.delivery_info or {}
        run_id = uuid.uuid4().hex
        if not self._lasting(
            Records(self.backend.client, key).claim,
            task_id,
            run_id,
            retries=self.request.retries,
            may_repeat=self.acks_late and bool(delivery.get("redelivered")),
            worker=self.request.hostname or "",
        ):
            log.warning("task %s is not run: it was stopped, or has been run before", task_id)
            raise Ignore
        self.request.lockcore_run = run_id

    def after_return(  # noqa: PLR0917 - Celery's signature
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Notes how the task has ended, where it does not expire as results do."""
        super().after_return(status, retval, task_id, args, kwargs, einfo)
        run_id = self.request.get("lockcore_run")
        if run_id is not None:
            self._lasting(
                Records(self.backend.client, self.request.get(HEADER)).end,
                task_id,
                run_id,
                succeeded=status == states.SUCCESS,
                detail="" if status == states.SUCCESS else _text(retval),
            )

    def _reporter(self, task_id: str) -> Callable[[float | None, str], None]:
        def report(progress: float | None, detail: str) -> None:
            if self.request.id == task_id:  # else a task of another class, later in this process
                self.update_state(state="PROGRESS", meta={"progress": progress, "detail": detail})

        return report

    def _lasting(self, call: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
        """Calls until Redis answers: without an answer a worker can do nothing right."""
        return bool(self.backend.ensure(lambda: call(*args, **kwargs), (), max_retries=None))


def _text(error: Any) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
