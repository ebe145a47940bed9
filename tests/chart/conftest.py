"""Nothing here is skipped: a tool that is missing ends the run with a line on how to get it."""

import shutil

import pytest

from .tools import HOW_TO_INSTALL, run


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    missing = [tool for tool in HOW_TO_INSTALL if " " not in tool and shutil.which(tool) is None]
    if "helm" not in missing and "unittest" not in run("helm", "plugin", "list"):
        missing.append("helm unittest")
    if missing:
        lines = [f"  {tool}: {HOW_TO_INSTALL[tool]}" for tool in missing]
        pytest.exit("the chart's tests lack\n" + "\n".join(lines), returncode=1)
