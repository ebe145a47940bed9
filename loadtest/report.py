"""What people see at the end: a table of rules, who heard whom, and the first things that went wrong."""

from collections.abc import Mapping

from loadtest.proof.judge import Finding
from loadtest.proof.verdict import HELD, NO_DATA, Verdict


def lines(verdict: Verdict | None, findings: Mapping[str, Finding], impossible: str = "") -> list[str]:
    """The table and what belongs to it. `impossible`: why the run could not even begin."""
    if verdict is None:
        return [f"NO DATA: {impossible or 'the run ended before anything could be judged'}"]
    made = _table([("", "rule", "measured", "wanted"), *(row.cells for row in verdict.rows)])
    for kind, finding in sorted(findings.items()):
        expected, delivered = finding.expected.total(), finding.delivered.total()
        made.append(f"{kind}s: {delivered:,} of {expected:,} deliveries, {finding.frames:,} frames")
        made += [
            f"  {there} -> {here}: {finding.delivered[there, here]:,} of {count:,}"
            for (there, here), count in sorted(finding.expected.items())
        ]
        made += [f"  {example}" for example in finding.examples]
    if verdict.code == NO_DATA:
        made.append("NO DATA: nobody was to hear anything")
    elif verdict.code == HELD:
        made.append("PASSED")
    if verdict.broken:
        made.append(f"BROKEN: {', '.join(verdict.broken)}")
    return made


def show(verdict: Verdict | None, findings: Mapping[str, Finding], impossible: str = "") -> None:
    """On standard output."""
    print("\n".join(["", *lines(verdict, findings, impossible)]), flush=True)


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
