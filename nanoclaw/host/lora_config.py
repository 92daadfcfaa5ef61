"""[lora] of the configuration: where concentrators send to, which ones may, and how much they may transmit."""

import re
from dataclasses import dataclass

from firmware.hosting.config import Table
from nanoclaw.core.lora.config import MOST_POWER_DBM, REGIONS, LoraConfig
from nanoclaw.core.lora.gwmp import is_eui

LORA_KEYS = ("host", "port", "region", "euis", "duty_cycle_percent", "power_dbm")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PORT = 1700
_PPM_A_PERCENT = 10_000


@dataclass(frozen=True)
class LoraSettings:
    """Where to listen for concentrators."""

    host: str
    port: int


def lora_settings(lora: Table, there: bool) -> tuple[LoraSettings | None, LoraConfig | None]:
    """What [lora] says, None twice when it is not `there`. Raises ConfigError."""
    if not there and not any(lora.has(key) for key in LORA_KEYS):
        return None, None
    host = lora.text("host", LOOPBACK[0])
    euis = frozenset(_eui(lora, text) for text in lora.texts("euis", ()))
    if not euis and host not in LOOPBACK:
        raise lora.fail("euis", f"is missing: list your concentrators, since others may reach {host} too")
    lora.choice("region", REGIONS, REGIONS[0])
    config = LoraConfig(
        euis=euis,
        power_dbm=lora.integer("power_dbm", 0, MOST_POWER_DBM, MOST_POWER_DBM),
        duty_ppm=lora.integer("duty_cycle_percent", 1, 100, 100) * _PPM_A_PERCENT,
    )
    return LoraSettings(host, lora.integer("port", 0, 65535, PORT)), config


def _eui(lora: Table, text: str) -> str:
    """An EUI as we write it, of one with or without separators."""
    eui = re.sub(r"[:-]", "", text).lower()
    if not is_eui(eui):
        raise lora.fail("euis", f"{text!r} is no EUI: 16 hexadecimal digits, as the packet forwarder has them")
    return eui
