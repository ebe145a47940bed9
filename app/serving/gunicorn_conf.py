"""gunicorn's configuration of one node, read from Django's settings.

`gunicorn -c python:app.serving.gunicorn_conf app.asgi:application`
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

from django.conf import settings

django.setup()

# The public port is shared by all nodes of a machine: the kernel spreads connections over them.
bind = [f"{settings.PUBLIC_HOST}:{settings.PUBLIC_PORT}"]
if settings.NODE_PORT:
    bind.append(f"{settings.PUBLIC_HOST}:{settings.NODE_PORT}")
reuse_port = True
worker_class = "app.serving.worker.CarillonWorker"
workers = 1
proc_name = settings.NODE_NAME
backlog = 4096
# A worker that does not tell of itself for so long is killed: its loop stands still.
timeout = 30
graceful_timeout = int(settings.SHUTDOWN_SECONDS) + 5
# Requests never end a node: a recycled worker would drop its connections at a random moment.
max_requests = 0
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = settings.LOG_LEVEL.lower()
