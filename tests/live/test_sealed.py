"""Sealed values with real processes: not on any socket, not in any file but the fleet manager's keys open them."""

from dataclasses import replace
from pathlib import Path

import pytest

from clawsim.live import proxy
from tests.live.plans import TEMP, plan
from tests.live.stage import play

SECRET, OPEN = 8314.25, 21.75
CO2 = replace(
    TEMP, metric="co2", unit="ppm", low=0, high=2_000_000, every_ms=20_000, sealed=True,
    signal={"kind": "constant", "exp": 2, "type": "number", "value": SECRET},
)  # fmt: skip
PLAIN = replace(TEMP, every_ms=20_000, signal={"kind": "constant", "exp": 2, "type": "number", "value": OPEN})


@pytest.mark.live
@pytest.mark.timeout(180)
async def test_no_socket_and_no_file_of_a_real_fleet_holds_a_sealed_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = bytearray()
    listen = proxy._End.data_received

    def data_received(self: proxy._End, data: bytes) -> None:
        heard.extend(data)
        listen(self, data)

    monkeypatch.setattr(proxy._End, "data_received", data_received)
    here = plan(nodes=1, minutes=2)
    here = replace(here, rules=(), nodes=tuple(replace(node, sensors=(CO2, PLAIN)) for node in here.nodes))
    played = await play(here, tmp_path)
    assert played.account.balanced and played.account.delivered == played.account.produced > 4
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    outbox = [path for path in files if "gateway-01" in path.parts and b"sealed" in files[path]]
    assert outbox and str(OPEN).encode() in b"".join(files.values()) and str(OPEN).encode() in heard
    assert b'"sealed"' in heard and str(SECRET).encode() not in heard
    config = tmp_path / "run" / "config"  # says what the sensor is to measure
    assert [path for path in files if str(SECRET).encode() in files[path] and config not in path.parents] == []
