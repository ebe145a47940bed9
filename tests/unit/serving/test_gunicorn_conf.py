import os
import resource
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]


def test_a_node_may_open_as_many_files_as_the_system_lets_it() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}));"
        "import app.serving.gunicorn_conf; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(hard), str(hard)]


def test_the_log_says_where_the_node_listens() -> None:
    code = (
        "import logging, sys; from types import SimpleNamespace; import app.serving.gunicorn_conf as conf;"
        "log = logging.getLogger('gunicorn.error'); log.propagate = False;"
        "log.addHandler(logging.StreamHandler(sys.stdout)); log.setLevel('INFO');"
        "conf.on_starting(SimpleNamespace(log=SimpleNamespace(error_log=log)));"
        "log.info('Listening at: %s (%s)', '', 7); log.info('something else')"
    )
    ports = {"PUBLIC_PORT": "8123", "NODE_PORT": "8124"}
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | ports,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["Listening at: 127.0.0.1:8123, 127.0.0.1:8124 (7)", "something else"]
