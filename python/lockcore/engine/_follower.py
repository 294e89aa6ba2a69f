"""Follows tasks to their end, and runs what is due then in a few threads."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from lockcore.engine._tasks import TaskBackend, TaskState, TaskStatus

__all__ = ["Follower"]

log = logging.getLogger("lockcore.engine")

Work = Callable[[], None]

CPU_SHARE = 0.05
"""Asking takes at most this part of one processor, if need be by asking less often."""

LONGEST_PAUSE = 5.0
"""Seconds between two questions to a back end that does not answer."""


class Watcher(Protocol):
    """Is told how a task stands."""

    def task_runs(self, task_id: str, status: TaskStatus) -> None:
        """Told how far the task has come, again and again."""

    def task_ended(self, task_id: str, status: TaskStatus | None) -> None:
        """Told once how the task has ended; None if the back end does not know it."""


class Follower:
    """One thread that asks the back end how all live tasks stand, in one call at a time.

    Args:
        backend: Whose tasks; None if there are none.
        interval: Seconds between two questions. The pause is longer where the answers to many
            tasks cost more than `CPU_SHARE` of a processor, as long as the answer where that is
            slow to come, and grows to `LONGEST_PAUSE` while there is none.
        workers: So many end actions run at a time.
    """

    def __init__(self, backend: TaskBackend | None, interval: float, workers: int) -> None:
        self._backend = backend
        self._interval = interval
        self._workers = workers
        self._changed = threading.Condition()
        self._watched: dict[str, Watcher] = {}
        self._told: dict[str, TaskStatus] = {}  # what the watchers know
        self._failures = 0  # to get an answer, in a row
        self._timers: list[tuple[float, int, Work]] = []
        self._timer_order = itertools.count()
        self._pool: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Begins to follow, and to run what is submitted."""
        with self._changed:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="lockcore-engine")
            self._thread = threading.Thread(target=self._follow, name="lockcore-follower")
            self._thread.daemon = True
            self._thread.start()

    def stop(self) -> None:
        """Follows no more. Returns when the work under way is done; what has not begun is left."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def watch(self, task_id: str, watcher: Watcher) -> None:
        """Tells the watcher how the task stands, until it has ended."""
        with self._changed:
            self._watched[task_id] = watcher
            self._changed.notify_all()

    def submit(self, work: Work) -> None:
        """Runs it soon, in another thread; never, once the follower stops."""
        with self._changed:
            if self._pool is not None and not self._is_stopping:
                self._pool.submit(work)

    def submit_later(self, delay: float, work: Work) -> None:
        """Runs it after so many seconds, in another thread."""
        with self._changed:
            entry = (time.monotonic() + delay, next(self._timer_order), work)
            heapq.heappush(self._timers, entry)
            self._changed.notify_all()

    def ask(self) -> None:
        """Asks once how all tasks stand, and tells the watchers."""
        with self._changed:
            watched = dict(self._watched)
        try:
            statuses = {} if self._backend is None else self._backend.status(watched)
        except Exception:
            # The traceback only once: the next failures will look the same.
            is_first = self._failures == 0
            log.exception("cannot ask the task back end; asking again", exc_info=is_first)
            self._failures += 1
            return
        if self._failures:
            log.info("the task back end answers again")
            self._failures = 0
        told = self._told
        for task_id, watcher in watched.items():
            status = statuses.get(task_id)
            if status is not None and status is told.get(task_id):
                continue
            try:
                if status is not None and status.state is TaskState.RUNNING:
                    watcher.task_runs(task_id, status)
                    told[task_id] = status
                    continue
                with self._changed:
                    del self._watched[task_id]
                told.pop(task_id, None)
                watcher.task_ended(task_id, status)
            except Exception:
                log.exception("cannot note how task %s stands", task_id)

    def _follow(self) -> None:
        ask_at = 0.0
        while True:
            with self._changed:
                while not self._is_stopping and not self._is_due(ask_at):
                    self._changed.wait(self._pause(ask_at))
                if self._is_stopping:
                    return
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    self.submit(heapq.heappop(self._timers)[2])
                is_due = bool(self._watched) and now >= ask_at
            if is_due:
                cpu_before = time.thread_time()
                self.ask()
                asked, cpu = time.monotonic(), time.thread_time() - cpu_before
                ask_at = asked + self._pause_after(asked - now, cpu)

    def _pause_after(self, elapsed: float, cpu: float) -> float:
        if self._failures:
            return min(self._interval * 2.0 ** min(self._failures, 30), LONGEST_PAUSE)
        return max(self._interval, elapsed, cpu * (1 / CPU_SHARE - 1))

    def _is_due(self, ask_at: float) -> bool:
        now = time.monotonic()
        return bool(self._watched and now >= ask_at) or bool(
            self._timers and self._timers[0][0] <= now
        )

    def _pause(self, ask_at: float) -> float | None:
        times = [ask_at] if self._watched else []
        times += [entry[0] for entry in self._timers[:1]]
        return max(0.0, min(times) - time.monotonic()) if times else None
