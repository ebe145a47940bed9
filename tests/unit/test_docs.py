"""The catalogues of docs/ hold exactly what the code has: no name is missing, none is left over."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

import app
from app.accounts.refusals import REFUSALS
from app.observability import metrics
from app.observability.weighted_histogram import WeightedHistogram
from app.realtime.close_codes import REASONS
from app.realtime.event import Event
from app.realtime.protocol import ERROR_CODES

ROOT = Path(__file__).parents[2]
NOT_AN_EVENT_CLASS = {"hello"}  # the consumer writes it itself: it is no publish


def catalogue(page: str, heading: str = "") -> dict[str, list[str]]:
    """The rows of a page's tables (or of those below `heading`): the name in the first cell, the others."""
    text = (ROOT / "docs" / page).read_text()
    if heading:
        _, found, text = text.partition(f"\n{heading}\n")
        assert found, f"docs/{page} has no heading {heading!r}"
        text = re.split(r"^#{1,2} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows: dict[str, list[str]] = {}
    for name, rest in re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, flags=re.MULTILINE):
        assert name not in rows, f"docs/{page} has {name} twice"
        rows[name] = [cell.strip() for cell in rest.split(" | ")]
    return rows


def modules() -> list[str]:
    """Every module of every room, but for the doors that start a process."""
    names = [module.name for module in pkgutil.walk_packages(app.__path__, "app.")]
    return [name for name in names if ".migrations" not in name and name not in {"app.asgi", "app.manage"}]


def sources() -> Iterator[ast.Module]:
    for path in (ROOT / "app").rglob("*.py"):
        yield ast.parse(path.read_text())


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with a literal text as its first argument: what is called, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            yield ast.unparse(node.func), node


def first_text(call: ast.Call) -> str:
    argument = call.args[0]
    assert isinstance(argument, ast.Constant)
    return str(argument.value)


def settings_read() -> Iterator[ast.Call]:
    """Every `env.kind("NAME", default, …)`."""
    for path in (ROOT / "app" / "settings").glob("*.py"):
        for function, call in calls(ast.parse(path.read_text())):
            if re.fullmatch(r"env\.\w+", function):
                yield call


def settings_in_code() -> set[str]:
    return {first_text(call) for call in settings_read()}


def metrics_in_code() -> set[str]:
    kinds = (MetricWrapperBase, WeightedHistogram)
    found = (value for value in vars(metrics).values() if isinstance(value, kinds))
    described = [family for metric in found for family in metric.describe()]
    return {family.name + ("_total" if family.type == "counter" else "") for family in described}


def subclasses(parent: type[Event]) -> Iterator[type[Event]]:
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


def events_in_code() -> dict[str, type[Event]]:
    for name in modules():
        if re.search(r"\.(events|node)$", name):
            importlib.import_module(name)
    shipped = [event for event in subclasses(Event) if event.__module__.startswith("app.")]
    return {event.name: event for event in shipped if hasattr(event, "name")}


def commands_in_code() -> set[str]:
    decorators = (
        decorator
        for tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for decorator in node.decorator_list
    )
    return {
        first_text(call)
        for decorator in decorators
        for function, call in calls(decorator)
        if function == "command"
    }


@pytest.mark.parametrize(
    ("documented", "in_code"),
    [
        pytest.param(lambda: catalogue("settings.md"), settings_in_code, id="settings"),
        pytest.param(lambda: catalogue("metrics.md"), metrics_in_code, id="metrics"),
        pytest.param(lambda: catalogue("protocol.md", "## Commands"), commands_in_code, id="commands"),
        pytest.param(
            lambda: catalogue("protocol.md", "## Events").keys() - NOT_AN_EVENT_CLASS,
            events_in_code,
            id="events",
        ),
        pytest.param(lambda: catalogue("protocol.md", "## Error codes"), lambda: ERROR_CODES, id="errors"),
        pytest.param(lambda: catalogue("protocol.md", "### Refusals"), lambda: REFUSALS, id="refusals"),
        pytest.param(
            lambda: catalogue("protocol.md", "## Close codes"), lambda: map(str, REASONS), id="close codes"
        ),
    ],
)
def test_the_catalogue_and_the_code_have_the_same_names(documented, in_code) -> None:  # type: ignore[no-untyped-def]
    pages, code = set(documented()), set(in_code())
    assert code, "found nothing in the code: this test looks in the wrong place"
    assert not code - pages, f"not documented: {sorted(code - pages)}"
    assert not pages - code, f"documented, but not there: {sorted(pages - code)}"


def as_documented(default: object) -> str:
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case float() if default.is_integer():
            return f"`{int(default)}`"
        case "" | []:
            return "empty"
        case _:
            return f"`{default}`"


def test_each_setting_has_the_default_that_the_docs_say() -> None:
    documented = {name: cells[0] for name, cells in catalogue("settings.md").items()}
    compared = 0
    for call in settings_read():
        worked_out = any(isinstance(node, (ast.Name, ast.FormattedValue)) for node in ast.walk(call.args[-1]))
        if not worked_out:
            default = eval(ast.unparse(call.args[1]))
            assert documented[first_text(call)] == as_documented(default), first_text(call)
            compared += 1
    assert compared > 20


def test_refusals_errors_and_close_codes_mean_in_the_docs_what_they_mean_in_code() -> None:
    errors = {name: cells[0] for name, cells in catalogue("protocol.md", "## Error codes").items()}
    assert errors == ERROR_CODES
    closes = {int(name): cells[0] for name, cells in catalogue("protocol.md", "## Close codes").items()}
    assert closes == REASONS
    refusals = {name: int(cells[0]) for name, cells in catalogue("protocol.md", "### Refusals").items()}
    assert refusals == {reason: status for reason, (status, _) in REFUSALS.items()}


def test_the_class_of_each_event_is_the_one_that_the_docs_say() -> None:
    documented = {name: cells[0] for name, cells in catalogue("protocol.md", "## Events").items()}
    for name, event in events_in_code().items():
        assert documented[name] == event.delivery.name.lower(), name


def test_the_ladder_in_the_docs_has_every_room() -> None:
    rooms = {
        f"app/{path.name}/" if path.is_dir() else f"app/{path.name}"
        for path in (ROOT / "app").iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    }
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## The ladder")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(app/[^`]+)`", text)) == rooms


def test_each_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    indexed = re.findall(r"\]\((\d{4}-[^)]+\.md)\)", (folder / "README.md").read_text())
    assert records == indexed
    assert [record[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]


def test_each_link_between_pages_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
