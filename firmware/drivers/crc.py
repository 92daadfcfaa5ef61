"""The checksums of the parts."""


def crc8_maxim(data: bytes) -> int:
    """1-Wire: x⁸+x⁵+x⁴+1, least significant bit first, from 0 (Maxim application note 27)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8C if crc & 1 else crc >> 1
    return crc


def crc8_sensirion(data: bytes) -> int:
    """Sensirion's I²C: x⁸+x⁵+x⁴+1, most significant bit first, from 0xFF (SCD4x data sheet, section 3.12)."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31) & 0xFF if crc & 0x80 else crc << 1
    return crc


def crc16_a(data: bytes) -> bytes:
    """CRC_A of ISO/IEC 14443-3, annex B, as it is sent: the low byte first."""
    crc = 0x6363
    for byte in data:
        byte ^= crc & 0xFF
        byte = (byte ^ byte << 4) & 0xFF
        crc = crc >> 8 ^ byte << 8 ^ byte << 3 ^ byte >> 4
    return bytes([crc & 0xFF, crc >> 8])
