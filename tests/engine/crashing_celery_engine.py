"""The engine of `crashing_engine.py` with Celery tasks, and instants of its own around a start."""

from __future__ import annotations

import os
from typing import Any

import celery_app
from celery.app.amqp import AMQP
from crashing_engine import DIRECTORY, Copy, now, serve

from lockcore.engine.celery import CeleryTasks


class DyingPublisher(AMQP):  # type: ignore[misc] # Celery has no types
    """Dies around the publishing of a task."""

    @property
    def send_task_message(self) -> Any:
        def send(*args: Any, **options: Any) -> Any:
            now("after the record is made")
            sent = publish(*args, **options)
            now("after the task is published")
            return sent

        publish = super().send_task_message
        return send


if __name__ == "__main__":
    os.chdir(DIRECTORY)
    Copy.task = (celery_app.wait, DIRECTORY)
    celery_app.app.amqp_cls = DyingPublisher
    serve(CeleryTasks(celery_app.app, name=os.environ["LOCKCORE_TEST_ENGINE"]))
