"""Scenario files: read, checked and resolved into a plan that every world executes.

``load(path, overrides)`` gives a :class:`Plan` or raises :class:`ScenarioError` with all that is wrong, each with its
place in the file. ``clawsim.scenario.vocabulary`` lists the words, ``clawsim.scenario.models`` the file's shape.
"""

from clawsim.scenario.errors import Problem, ScenarioError
from clawsim.scenario.loader import load
from clawsim.scenario.plan import Plan
from clawsim.scenario.schema import json_schema

__all__ = ["Plan", "Problem", "ScenarioError", "json_schema", "load"]
