"""The Django project: everything that ships in the image."""

from typing import Final

VERSION: Final = "0.1.0"
"""Of this release; pyproject.toml and the chart say the same."""
