"""How far a LoRa frame carries: strength by distance, and what a concentrator just hears.

Strength falls with the distance as measured over land at 868 MHz: 128.95 dB at 1 km and 23.2 dB a decade (Petäjäjärvi
et al., "On the coverage of LPWANs", 2015).
"""

import math

POWER_DBM = 14
LOSS_AT_1_KM_DB = 128.95
LOSS_A_DECADE_DB = 23.2
SENSITIVITY_DBM = {7: -123, 8: -126, 9: -129, 10: -132, 11: -134.5, 12: -137}
"""SX1276 data sheet, table 10, at 125 kHz; 11 between its neighbours."""


def strength_dbm(distance_m: int) -> float:
    """What arrives of `POWER_DBM` after `distance_m`."""
    return POWER_DBM - LOSS_AT_1_KM_DB - LOSS_A_DECADE_DB * math.log10(max(distance_m, 1) / 1000)


def reach_m(sf: int) -> int:
    """The distance at which a frame is just heard."""
    return int(1000 * 10 ** ((POWER_DBM - LOSS_AT_1_KM_DB - SENSITIVITY_DBM[sf]) / LOSS_A_DECADE_DB))
