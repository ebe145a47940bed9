"""`run_worker`: this process runs background tasks until it is told to stop."""

import asyncio
import logging
import os
import signal
from argparse import ArgumentParser
from typing import Any

from channels.layers import channel_layers
from channels.routing import get_default_application
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from app.database.pool import watch_pool
from app.realtime.node import stop_node
from app.realtime.task_queue import TaskQueue
from app.serving.internal_port import InternalPort
from app.serving.task_worker import TaskWorker

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Run the tasks of named channels, and send those that are due by TASK_SCHEDULE. SIGTERM: the task in "
        "hand is finished, within SHUTDOWN_SECONDS."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "channels", nargs="*", help="only these channels; without any, all that are routed"
        )

    def handle(self, *args: Any, channels: list[str], **options: Any) -> None:
        application = get_default_application()
        routed = list(application.application_mapping["channel"].application_mapping)
        for channel in channels:
            if channel not in routed:
                raise CommandError(f"no consumer for {channel!r}: expected one of {', '.join(routed)}")
        queue = channel_layers["tasks"]
        if not isinstance(queue, TaskQueue):
            raise CommandError(
                "without Redis no task leaves the process that sends it: "
                "expected REDIS_SENTINELS or REDIS_ADDRESS"
            )
        try:
            internal_port = InternalPort(settings.INTERNAL_HOST, settings.INTERNAL_PORT)
        except OSError as error:
            raise CommandError(
                f"INTERNAL_PORT {settings.INTERNAL_PORT} cannot be used: {error.strerror}"
            ) from None
        watch_pool()
        internal_port.start()
        try:
            asyncio.run(_work(application, channels or routed, queue))
        finally:
            internal_port.stop()


async def _work(application: Any, channels: list[str], queue: TaskQueue) -> None:
    worker = TaskWorker(application, channels, queue, settings.TASK_SCHEDULE)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop)
    logger.info("%s runs the tasks of %s", settings.NODE_NAME, ", ".join(channels))
    finished = await worker.run(settings.SHUTDOWN_SECONDS)
    await stop_node()
    await queue.close_pools()
    if not finished:
        # A thread that still works would hold the process up for as long as it likes.
        logging.shutdown()
        os._exit(1)
