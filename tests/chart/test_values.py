"""values.yaml and values.schema.json have the same names, and nothing of ours takes an unknown one."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .tools import CHART, for_every_value_set, refusal, rendered

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
NOT_IN_THE_VALUES = {
    "global",  # only a chart above this one sets it
    "httpRoute.timeouts.backendRequest",
    "httpRoute.timeouts.request",
}
MAY_BE_BLANK = {"claims", "limits", "requests", "resources", "rollingUpdate", "timeouts"}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "").removeprefix("#/definitions/")
    return SCHEMA["definitions"][reference] if reference else schema


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object whose names the schema lists, by its path."""
    schema = resolved(schema)
    if "properties" in schema:
        yield path, schema
        for name, below in schema["properties"].items():
            yield from objects(below, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def names_in(values: dict[str, Any], known: set[str], path: str = "") -> Iterator[str]:
    """Every name in the values, down to where the schema lists no names any more."""
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        yield here
        if isinstance(value, dict) and any(other.startswith(f"{here}.") for other in known):
            yield from names_in(value, known, here)


def names_in_the_schema() -> set[str]:
    return {
        f"{path}.{name}".lstrip(".")
        for path, schema in objects(SCHEMA)
        if "[]" not in path and path != "settings"
        for name in schema["properties"]
    }


def test_the_values_and_their_schema_have_the_same_names() -> None:
    schema = names_in_the_schema()
    values = set(names_in(VALUES, schema))
    assert not values - schema, "in values.yaml, unknown to values.schema.json"
    optional = {name for name in schema if name.endswith((".requests", ".limits", ".claims"))}
    assert not schema - values - optional - NOT_IN_THE_VALUES, "in values.schema.json, not in values.yaml"


def test_no_object_of_ours_takes_an_unknown_name() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > 20
    assert [path for path, schema in found if schema.get("additionalProperties") is not False] == []


def test_what_the_templates_count_on_cannot_be_left_blank() -> None:
    """A blank value takes its default away. Lists and free maps are empty then; anything else is refused."""
    compared = 0
    for path, schema in objects(SCHEMA):
        if "[]" in path or path.rpartition(".")[2] in MAY_BE_BLANK:
            continue
        values = functools.reduce(lambda found, key: found[key], path.split(".") if path else [], VALUES)
        needed = {
            key
            for key, below in schema["properties"].items()
            if key in values and key not in MAY_BE_BLANK
            if "properties" in resolved(below) or isinstance(values[key], (str, int, float))
        }
        assert set(schema.get("required", [])) == needed, f"`required` of {path or 'all'}"
        compared += len(needed)
    assert compared > 60


def test_a_typo_is_refused_by_name() -> None:
    said = refusal("--set", "node.replica=3")
    assert "at '/node': additional properties 'replica' not allowed" in said


@for_every_value_set
def test_every_value_set_renders(values: Path) -> None:
    assert "kind: Deployment" in rendered(values)
