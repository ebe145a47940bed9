"""The shortest story of a broken promise: who asked for what, who got it where, what was broken meanwhile."""

from tests.failure.checker.judge import KINDS, Problem, Verdict
from tests.failure.checker.record import Account, Fault, Run

AROUND_SECONDS = 5.0
"""What was broken so long before the command, or after it, may have to do with it."""
SHOWN_PROBLEMS = 10


def report(run: Run, verdict: Verdict) -> str:
    """For people: what was broken how often, the first problems, and the story of the very first."""
    counts = ", ".join(f"{number} {kind}" for kind, number in verdict.counts().items() if number)
    lines = [f"seed {run.seed}: {verdict.acknowledged} acknowledged; {counts or 'nothing wrong'}"]
    problems = sorted(verdict.problems, key=lambda one: (KINDS.index(one.kind), one.stream, one.sequence))
    for problem in problems[:SHOWN_PROBLEMS]:
        lines.append(f"  {problem.kind}: {_name(problem)} {problem.text}")
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - SHOWN_PROBLEMS} more")
    if problems:
        lines += ["", *story(run, problems[0])]
    return "\n".join(lines)


def story(run: Run, problem: Problem) -> list[str]:
    """One line for each thing that happened to the event of `problem`, in order of time."""
    asked = next((one for account in run.accounts for one in account.asked if one.key == problem.key), None)
    told: list[tuple[float, str]] = []
    sequence = problem.sequence
    if asked is not None:
        told.append((asked.at, f"{asked.client} ({asked.person}) asks for {asked.kind} {asked.text!r}"))
        told += [
            (one.at, f"{one.node} answers: {one.error or f'stored at {one.sequence}'}")
            for one in asked.answers
        ]
        first = asked.acknowledged
        sequence = first.sequence if first is not None else sequence
    for account in run.accounts:
        told += _of_account(account, problem, sequence)
    times = [at for at, _ in told]
    if times:
        told += [
            (fault.began, f"BROKEN until {fault.ended:.3f}: {fault.what}")
            for fault in run.faults
            if _near(fault, min(times), max(times))
        ]
    return [f"the story of {_name(problem)}:", *(f"  {at:9.3f} s  {what}" for at, what in sorted(told))]


def _of_account(account: Account, problem: Problem, sequence: int) -> list[tuple[float, str]]:
    told = []
    for stay in account.stays:
        if stay.stream != problem.stream:
            continue
        for event in stay.received:
            if event.sequence == sequence:
                told.append((event.at, f"{account.client} gets it on {stay.node}"))
        missed = not any(event.sequence == sequence for event in stay.received)
        if account.client == problem.client and missed:
            told.append((stay.began, f"{account.client} is on {stay.node} from {stay.after} on"))
            if stay.ended is not None:
                told.append(
                    (stay.ended, f"{account.client} leaves {stay.node} at {stay.position}: {stay.why}")
                )
    paged = account.paged.get(problem.stream, {}).get(problem.key)
    if paged is not None:
        told.append((paged[1], f"{account.client} gets it by paging"))
    return told


def _near(fault: Fault, first: float, last: float) -> bool:
    return fault.began < last + AROUND_SECONDS and fault.ended > first - AROUND_SECONDS


def _name(problem: Problem) -> str:
    return " ".join(filter(None, (problem.stream, str(problem.sequence or ""), problem.key)))
