"""Skaffold on a copy of the source: what its commands say, and `skaffold dev` while it runs."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.browsers import kept
from tests.cluster.cluster import Namespace, eventually, run
from tests.cluster.place import Place

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 900.0
"""Builds and pushes an image first."""
END_SECONDS: Final = 300.0
WATCHES: Final = "Watching for changes..."


class Skaffold:
    """Its commands, as the documentation says them, for one namespace."""

    def __init__(self, place: Place, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.source = _copied(folder / "source")
        self._artifacts = folder / "artifacts.json"
        self._namespace = f"--namespace={namespace.name}"
        # `skaffold verify` knows no option for the context: it gets a kubeconfig with this one only.
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(namespace.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten"))
        self._command = ["env", f"KUBECONFIG={kubeconfig}", "skaffold"]
        self._registry = f"--default-repo={place.registry or place.image.rpartition('/')[0]}"

    def run(self) -> str:
        return self._say("run", "--tail=false", self._namespace, self._registry)

    def build(self) -> None:
        """Notes what was built, for `verify`."""
        self._say("build", self._registry, f"--file-output={self._artifacts}")

    def verify(self) -> str:
        """Raises `CommandFailed` with the words of the check when the nodes do not hear each other."""
        return self._say("verify", self._namespace, self._registry, f"--build-artifacts={self._artifacts}")

    def execute(self, action: str, **environment: str) -> str:
        """A custom action. Raises `CommandFailed` with its words when it fails."""
        variables = self.source.parent / "action.env"
        variables.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        words = (
            self._namespace,
            self._registry,
            f"--build-artifacts={self._artifacts}",
            f"--env-file={variables}",
        )
        return self._say("exec", action, *words)

    def delete(self) -> str:
        return self._say("delete", self._namespace, self._registry)

    @contextmanager
    def dev(self) -> Iterator[None]:
        """`skaffold dev` from the moment at which it watches; then Ctrl-C."""
        log = kept("cluster") / f"{self.namespace.name}-skaffold-dev.log"
        words = [*self._command, "dev", "--port-forward=off", self._namespace, self._registry]
        with log.open("w") as output:
            process = subprocess.Popen(words, cwd=self.source, stdout=output, stderr=subprocess.STDOUT)

        def watches() -> bool:
            assert process.poll() is None, f"skaffold dev ended: see {log}"
            return WATCHES in log.read_text()

        try:
            eventually(watches, f"skaffold dev watches: see {log}", READY_SECONDS)
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait(END_SECONDS) == 0, f"see {log}"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def edit(self, file: str, old: str, new: str) -> None:
        """Save `file` of the copy with `new` in place of `old`, at once, as editors do."""
        path = self.source / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        saved = path.with_suffix(".saved")
        saved.write_text(text.replace(old, new, 1))
        saved.replace(path)

    def _say(self, *words: str) -> str:
        return run([*self._command, *words], seconds=READY_SECONDS, folder=self.source)


def _copied(folder: Path) -> Path:
    """The source as it would be committed: nobody's own files are edited."""
    listed = run(["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"])
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder
