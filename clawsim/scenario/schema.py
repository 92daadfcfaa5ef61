"""The JSON Schema of scenario files, for editors: ``# yaml-language-server: $schema=scenario.schema.json``."""

from __future__ import annotations

from typing import Any

from clawsim.scenario.models import Scenario


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file.

    It knows shapes, units and words; whether an id exists is what ``clawsim check`` says.
    """
    schema = Scenario.model_json_schema(by_alias=True)
    schema["title"] = "Clawland scenario"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
