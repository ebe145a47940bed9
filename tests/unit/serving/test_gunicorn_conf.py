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
