"""A board finds gateways by their real announcement."""

import asyncio
import json

import pytest

from tests.micro import boards
from tests.nanoclaw_host.test_discovery import LOOPBACK, announced

pytestmark = pytest.mark.live
SCRIPT = boards.ROOT / "tests" / "micro" / "scan.py"


async def test_a_board_finds_every_gateway_with_all_that_a_node_chooses_by() -> None:
    async with announced(("gateway-08", 18081), ("gateway-09", 18082)):
        done = await asyncio.to_thread(boards.run, SCRIPT, LOOPBACK)
    found = {gateway["id"]: gateway for gateway in json.loads(done.stdout)}
    common = {"fleet": "clawland", "role": "secondary", "load": 3}
    assert found["gateway-08"] == {"id": "gateway-08", "target": "127.0.0.1:18081", **common}
    assert found["gateway-09"] == {"id": "gateway-09", "target": "127.0.0.1:18082", **common}


def test_an_interface_that_is_not_there_is_an_empty_answer_and_a_word_in_the_log() -> None:
    lines = boards.run(SCRIPT, "192.0.2.77").stdout.splitlines()
    assert lines[0].startswith("cannot scan for gateways on 192.0.2.77")
    assert lines[-1] == "[]"
