"""Every setting of the application has one place: the chart sets it, or the value `settings` takes it."""

import ast
import json
import re
from typing import Any

import pytest
import yaml

from .tools import CHART, ROOT, VALUE_SETS, containers, refusal, rendered_manifests

TYPES: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "list": {"type": "array", "items": {"type": "string"}},
    "path": {"type": "string"},
    "str": {"type": "string"},
}
ELSEWHERE = {"$ref": "#/definitions/elsewhere"}
OWN_DEFAULT = {"LOG_FORMAT"}  # the chart's differs from the application's, and `settings` has the last word
NOT_IN_A_POD = {"NODE_PORT"}  # tells the nodes of one machine apart; a pod has an address of its own


def literal(node: ast.expr) -> Any:
    return eval(ast.unparse(node), {"__builtins__": {}})


def in_json_schema(kind: str, check: ast.expr | None) -> dict[str, Any]:
    """What `env.<kind>(…, validate=<check>)` of app/settings is in JSON Schema."""
    match check:
        case None:
            return TYPES[kind]
        case ast.Name(id="positive"):
            return {"$ref": f"#/definitions/positive{'Integer' if kind == 'int' else 'Number'}"}
        case ast.Call(func=ast.Attribute(attr="OneOf"), args=[choices]):
            return {"enum": literal(choices)}
        case ast.Call(func=ast.Attribute(attr="Regexp"), args=[pattern]):
            return TYPES[kind] | {"pattern": literal(pattern).replace("\\Z", "$")}
        case ast.Call(func=ast.Attribute(attr="Range"), args=positional, keywords=named):
            limits = dict(zip(("minimum", "maximum"), positional, strict=False))
            limits |= {f"{keyword.arg}imum": keyword.value for keyword in named}
            return TYPES[kind] | {name: literal(value) for name, value in limits.items()}
    raise AssertionError(f"this test can't say {ast.unparse(check)} in JSON Schema yet")


def settings_in_code() -> dict[str, dict[str, Any]]:
    """The name of each setting, and what the schema is to say of it."""
    found = {}
    parts = (ROOT / "app" / "settings").glob("*.py")
    for node in (node for part in parts for node in ast.walk(ast.parse(part.read_text()))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="env"), attr=kind), args=[name, *_]):
                checks = [keyword.value for keyword in node.keywords if keyword.arg == "validate"]
                found[str(literal(name))] = in_json_schema(kind, checks[0] if checks else None)
    assert len(found) > 40, "found too few settings: this test looks in the wrong place"
    return found


def settings_in_the_schema() -> dict[str, Any]:
    schema = json.loads((CHART / "values.schema.json").read_text())
    properties: dict[str, Any] = schema["properties"]["settings"]["properties"]
    return properties


def settings_of_a_node() -> set[str]:
    """What the nodes of all value sets get that nobody asked for under `settings`."""
    found = set()
    for values in VALUE_SETS:
        asked = (yaml.safe_load(values.read_text()) or {}).get("settings", {})
        for container in containers(rendered_manifests(values), component="node"):
            found |= {variable["name"] for variable in container.get("env", [])} - set(asked)
    return found & settings_in_code().keys()


TAKEN = {name: schema for name, schema in settings_in_the_schema().items() if schema != ELSEWHERE}


def test_every_setting_has_a_place_in_the_chart() -> None:
    code, schema = settings_in_code(), settings_in_the_schema()
    new = {name: code[name] for name in code.keys() - schema.keys()}
    assert not new, f"values.schema.json lacks below settings (or {ELSEWHERE}): {json.dumps(new)}"
    assert not schema.keys() - code.keys(), "in values.schema.json, but no setting"


@pytest.mark.parametrize("name", TAKEN)
def test_the_schema_takes_of_a_setting_what_the_application_takes(name: str) -> None:
    assert TAKEN[name] == settings_in_code()[name]


def test_what_the_chart_sets_is_refused_below_settings_and_nothing_else() -> None:
    elsewhere = settings_in_the_schema().keys() - TAKEN.keys()
    assert elsewhere == (settings_of_a_node() - OWN_DEFAULT) | NOT_IN_A_POD
    said = refusal("--set-json", f"settings={json.dumps(dict.fromkeys(elsewhere, 'x'))}")
    assert set(re.findall(r"- settings\.([A-Z_]+): the chart sets it itself", said)) == elsewhere


def test_a_mistyped_setting_is_refused_by_name() -> None:
    said = refusal("--set", "settings.PING_SECOND=25")
    assert "at '/settings': additional properties 'PING_SECOND' not allowed" in said
