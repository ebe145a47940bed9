"""`python -m loadtest.bench`: measures and shows a table; ends with 1 if anything was lost."""

import argparse
import signal
import sys
from datetime import UTC, datetime
from typing import Final

from deploy.local.processes import StartFailed
from loadtest.bench import machine, report
from loadtest.bench.figures import (
    Sizes,
    burst,
    connects,
    crossing,
    fanout,
    memory,
    paced,
    posts,
    resumes,
    rolling,
    scaling,
    scraping,
    writers,
)
from loadtest.bench.processes import Stage
from loadtest.bench.report import Row
from loadtest.bench.wire import WireError

FIGURES: Final = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        fanout,
        burst,
        paced,
        memory,
        connects,
        scraping,
        scaling,
        posts,
        crossing,
        resumes,
        writers,
        rolling,
    )
}
RESULTS: Final = machine.REPOSITORY / "docs" / "results"


def main() -> None:
    """One run."""
    options = _options()
    notes = machine.description()
    machine.prepare(machine.CLIENT_CORE)
    files = max(options.idle, 5 * options.connections) + 1_000
    if files > machine.files_limit():
        sys.exit(
            f"bench: {files:,} open files are needed and {machine.files_limit():,} are allowed: "
            "raise `ulimit -Hn`, or lower IDLE and CONNECTIONS"
        )
    # SIGTERM ends the run as Ctrl-C does: through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = Sizes(options.connections, options.idle, options.rounds, options.seconds)
    notes.append(sizes.description())
    rows: list[Row] = []
    name = "the start"
    try:
        with Stage() as stage:
            for name in options.only or FIGURES:
                print(f"measuring {name}", flush=True)
                rows += FIGURES[name].measure(stage, sizes)
                notes += stage.notes
                stage.notes.clear()
    except KeyboardInterrupt:
        sys.exit("bench: stopped")
    except (StartFailed, WireError, OSError) as error:
        if rows:
            report.show(rows, notes)
        sys.exit(f"bench: {name} has no figure: {error}")
    report.show(rows, notes)
    if options.save:
        day = datetime.now(UTC).date()
        RESULTS.mkdir(parents=True, exist_ok=True)
        # What was asked for alone takes nobody else's place.
        file = RESULTS / f"{day.isoformat()}-{'-'.join(options.only or ['bench'])}.md"
        file.write_text(report.markdown(rows, notes, day, machine.commit()))
        print(f"kept in {file.relative_to(machine.REPOSITORY)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=FIGURES, help="measure this figure; may be repeated"
    )
    parser.add_argument("--save", action="store_true", help="keep the table in docs/results/")
    parser.add_argument("--rounds", type=_positive, default=Sizes.rounds)
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help="of one run of durable posts")
    parser.add_argument("--connections", type=_positive, default=Sizes.connections)
    parser.add_argument(
        "--idle", type=_positive, default=Sizes.idle, help="idle connections of the memory figure"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return number


if __name__ == "__main__":
    main()
