"""A gateway under any order of events keeps every promise of the design."""

from hypothesis import settings

from tests.conftest import FULL
from tests.nanoclaw_core.machine import Outage

TestOutage = Outage.TestCase
TestOutage.settings = settings(max_examples=400 if FULL else 60, stateful_step_count=60 if FULL else 30, deadline=None)
