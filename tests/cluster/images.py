"""Images for a run: the one under test, other versions of it, and what its surroundings need."""

import os
import shutil
from pathlib import Path
from typing import Final

from tests.cluster.cluster import run
from tests.cluster.place import NoPlace, Place
from tests.cluster.release import Image

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
BUILD_SECONDS: Final = 900.0


class Images:
    """What is built goes beside the image under test: the same repository, other tags."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._tested: Image | None = None

    def tested(self) -> Image:
        """The application as it is here, or the one that the run was told."""
        if self._tested is None:
            self._tested = Image.named(self._place.image) if self._place.image else self._made()
        return self._tested

    def version(self, change: str) -> Image:
        """The image under test with the change of `versions/<change>.py` on top."""
        base = self.tested()
        arguments = {"BASE": base.reference, "CHANGE": change}
        return self._build(HERE / "versions", f"{base.tag}-{change}", arguments)

    def beside(self, name: str) -> Image:
        """The image of the folder `name`, for what the application is to work with."""
        return self._build(HERE / name, f"test-{name}", {})

    def load_test(self) -> Image:
        """The load tests as they are here, where the chart looks for them."""
        tested = self.tested()
        registry, _, name = tested.repository.rpartition("/")
        words = ["make", "--directory", str(ROOT), "push-load-image", f"IMAGE={name}", f"TAG={tested.tag}"]
        run([*words, f"REGISTRY={registry}"], seconds=BUILD_SECONDS)
        return Image(f"{tested.repository}-load", tested.tag)

    def _made(self) -> Image:
        """By the project's own commands, as people do."""
        revision = run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]).strip()
        image = Image(f"{self._place.registry}/carillon", f"test-{revision}")
        words = ["make", "--directory", str(ROOT), "push", "IMAGE=carillon", f"TAG={image.tag}"]
        run([*words, f"REGISTRY={self._place.registry}"], seconds=BUILD_SECONDS)
        return image

    def _build(self, folder: Path, tag: str, arguments: dict[str, str]) -> Image:
        image = Image(self.tested().repository, tag)
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        run([_tool(), "build", *options, f"--tag={image.reference}", str(folder)], seconds=BUILD_SECONDS)
        run([_tool(), "push", image.reference], seconds=BUILD_SECONDS)
        return image


def _tool() -> str:
    tool = os.environ.get("CONTAINER_TOOL") or shutil.which("docker") or shutil.which("podman")
    if tool is None:
        raise NoPlace("needs docker or podman to build other versions; CONTAINER_TOOL=... names another")
    return tool
