"""gunicorn's configuration of one node, read from Django's settings.

`gunicorn -c python:app.serving.gunicorn_conf app.asgi:application`
"""

import logging
import os
import resource
import signal
from contextlib import suppress
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

from django.conf import settings

django.setup()

# A container may start with a soft limit of 1,024 open files: far fewer than the connections a node can hold.
_hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
with suppress(ValueError, OSError):  # macOS calls its hard limit infinite, and refuses to set it
    resource.setrlimit(resource.RLIMIT_NOFILE, (_hard_limit, _hard_limit))

_host = f"[{settings.PUBLIC_HOST}]" if ":" in settings.PUBLIC_HOST else settings.PUBLIC_HOST
# The public port is shared by all nodes of a machine: the kernel spreads connections over them.
bind = [f"{_host}:{settings.PUBLIC_PORT}"]
if settings.NODE_PORT:
    bind.append(f"{_host}:{settings.NODE_PORT}")
reuse_port = True
worker_class = "app.serving.worker.CarillonWorker"
workers = 1
proc_name = settings.NODE_NAME
backlog = 4096
# A worker that does not tell of itself for so long is killed: its loop stands still.
timeout = 30
graceful_timeout = int(settings.DRAIN_NOTICE_SECONDS + settings.DRAIN_SECONDS + settings.SHUTDOWN_SECONDS) + 8
# Requests never end a node: a recycled worker would hand its connections over at a random moment.
max_requests = 0
control_socket_disable = True


def on_starting(server: Any) -> None:
    """With SO_REUSEPORT the worker opens the sockets, and gunicorn itself would log an empty address."""

    def name_addresses(record: logging.LogRecord) -> bool:
        if record.msg == "Listening at: %s (%s)" and isinstance(record.args, tuple):
            record.args = (", ".join(bind), record.args[1])
        return True

    server.log.error_log.addFilter(name_addresses)


def when_ready(arbiter: Any) -> None:
    """A second SIGTERM hurries the worker: gunicorn itself hears only the first, and of others SIGINT."""
    told = False

    def terminate(number: int, frame: Any) -> None:
        nonlocal told
        if told and os.getpid() == arbiter.pid:
            for pid in list(arbiter.WORKERS):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        told = True
        arbiter.signal(number, frame)

    signal.signal(signal.SIGTERM, terminate)


accesslog = None
errorlog = "-"
loglevel = settings.LOG_LEVEL.lower()
if settings.LOG_FORMAT == "json":
    # What gunicorn says of itself, and Python's warnings, go where everything goes, in the same format.
    logging.captureWarnings(True)
    logconfig_dict = settings.LOGGING
