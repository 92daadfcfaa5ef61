"""The JSON messages between a gateway and the fleet manager, encoded and decoded in one place.

Decoders raise `Rejected` with the reason; the receiver counts it, says so and goes on. Unknown keys are ignored, an
unknown version `v` is not.
"""

import gzip
import zlib
from typing import Any

import orjson

from firmware.wire.ids import valid_id, valid_metric
from firmware.wire.messages import MAX_BOOT, MAX_SEQ, MAX_TEXT_CHARS, is_count
from firmware.wire.sealing import blob_of

VERSION = 1
MAX_BATCH_READINGS = 1000
MAX_BATCH_BYTES = 256 * 1024
MAX_HUB_BYTES = MAX_BATCH_BYTES  # the largest payload that the Event Hub passes on
MAX_MESSAGE_BYTES = 64 * 1024  # anything else on the hub but a configuration
MAX_INTEGER = (1 << 53) - 1  # RFC 8259 section 6: what every reader of JSON agrees on
TIME_QUALITIES = ("exact", "corrected", "estimated")
"""corrected: by a gateway that learned UTC after it took the reading; only what is exact raises an alert."""
MAX_UTC_MS = 253_402_300_800_000  # year 10000

Message = dict[str, Any]


class Rejected(ValueError):
    """A message that cannot be taken; the text says why."""


def encode(message: Message) -> bytes:
    """Any message of this module as JSON."""
    return orjson.dumps(message)


def decode(payload: bytes, most_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """A JSON object of a version we know. Raises Rejected."""
    message = _load(payload, most_bytes)
    if not isinstance(message, dict):
        raise Rejected("not a JSON object")
    if message.get("v", VERSION) != VERSION:
        raise Rejected("unknown version")
    return message


def _load(payload: bytes, most_bytes: int) -> Any:
    if len(payload) > most_bytes:
        raise Rejected(f"longer than {most_bytes} bytes")
    try:
        return orjson.loads(payload)
    except ValueError as error:
        raise Rejected("not JSON") from error


def text_of(message: Message, name: str, most_chars: int = MAX_TEXT_CHARS) -> str:
    """The text member `name`. Raises Rejected when it is missing, empty, too long or no text."""
    found = message.get(name)
    if not isinstance(found, str) or not 0 < len(found) <= most_chars or "\0" in found:  # PostgreSQL keeps no NUL
        raise Rejected(f"{name} is not a text of 1 to {most_chars} characters")
    return found


def count_of(message: Message, name: str, most: int = MAX_UTC_MS) -> int:
    """The member `name`, an integer from 0 to `most`. Raises Rejected."""
    found = message.get(name)
    if type(found) is not int or not 0 <= found <= most:
        raise Rejected(f"{name} is not an integer from 0 to {most}")
    return found


# --- batches -------------------------------------------------------------------------------------------------------


def encode_batch(batch: str, bodies: list[bytes], stats: list[Message]) -> bytes:
    """A batch of readings already encoded one by one."""
    return b'{"v":1,"batch":%s,"readings":[%s],"stats":%s}' % (
        orjson.dumps(batch),
        b",".join(bodies),
        orjson.dumps(stats),
    )


def compress(payload: bytes) -> bytes:
    """A batch for `batch/gz`; the same bytes for the same batch."""
    return gzip.compress(payload, compresslevel=6, mtime=0)


def decompress(payload: bytes) -> bytes:
    """The batch in a `batch/gz`. Raises Rejected for anything else, and for what would not fit when unpacked."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(payload, MAX_BATCH_BYTES + 1)
    except zlib.error as error:
        raise Rejected("not gzip") from error
    if len(found) > MAX_BATCH_BYTES or not unpacker.eof:
        raise Rejected("cut off, or longer than a batch may be")
    return found


def decode_batch(payload: bytes) -> tuple[str | None, list[Message], list[tuple[Any, str]]]:
    """The batch's id (None for a bare list), its checked readings, and those refused with the reason. Raises Rejected.

    Each reading has `sensor`, `metric`, `value`; of our gateways also `boot`, `seq`, `utc_ms`. One bad reading does not
    spoil the rest: a batch that is never acknowledged would come again for ever.
    """
    message = _load(payload, MAX_BATCH_BYTES)
    batch: str | None = None
    readings: Any = message
    if isinstance(message, dict):
        if message.get("v", VERSION) != VERSION:
            raise Rejected("unknown version")
        batch, readings = text_of(message, "batch"), message.get("readings")
    if not isinstance(readings, list) or len(readings) > MAX_BATCH_READINGS:
        raise Rejected(f"readings is not a list of at most {MAX_BATCH_READINGS}")
    if all(map(_is_usual, readings)):
        return batch, readings, []
    good, bad = [], []
    for reading in readings:
        try:
            check_reading(reading)
            good.append(reading)
        except Rejected as error:
            bad.append((reading, str(error)))
    return batch, good, bad


def _is_usual(reading: Any) -> bool:
    """Whether `reading` is one as our gateways send them all day, and good: what `check_reading` finds out, quicker."""
    try:
        unit, boot, seq, utc_ms = reading.get("unit"), reading["boot"], reading["seq"], reading["utc_ms"]
        return (
            reading["sensor"] in _KNOWN_IDS
            and reading["metric"] in _KNOWN_METRICS
            and type(reading["value"]) is float
            and (unit is None or unit in _KNOWN_UNITS)
            and type(boot) is type(seq) is type(utc_ms) is int
            and 0 <= boot <= MAX_BOOT
            and 0 <= seq <= MAX_SEQ
            and 0 <= utc_ms <= MAX_UTC_MS
            and ("time_quality" not in reading or reading["time_quality"] in TIME_QUALITIES)
        )
    except (AttributeError, KeyError, TypeError):  # not an object, a member less, one that is no text
        return False


def check_reading(reading: Any) -> None:
    """Raises Rejected unless `reading` is one that can be stored; a missing metric becomes `value`."""
    if not isinstance(reading, dict):
        raise Rejected("a reading is not an object")
    sensor, metric = reading.get("sensor"), reading.setdefault("metric", "value")
    if not (valid_id_cached(sensor) and valid_metric_cached(metric)):
        raise Rejected("a reading has no valid sensor or metric")
    value = reading.get("value")  # orjson reads no NaN and no infinity
    if type(value) is not float:
        _check_value_of(reading)
    unit = reading.get("unit")
    if unit is not None and not _cached(unit, _KNOWN_UNITS, _is_short_text):
        raise Rejected("a unit is not a short text")
    if reading.get("time_quality", "exact") not in TIME_QUALITIES:
        raise Rejected(f"a time_quality is none of {', '.join(TIME_QUALITIES)}")
    if ("boot" in reading or "seq" in reading) and not (
        is_count(reading.get("boot"), MAX_BOOT) and is_count(reading.get("seq"), MAX_SEQ)
    ):
        raise Rejected("a reading's boot or seq is not a count")
    if "utc_ms" in reading and not is_count(reading["utc_ms"], MAX_UTC_MS):
        raise Rejected("a reading's utc_ms is not a time")


def _check_value_of(reading: Message) -> None:
    if "sealed" not in reading:
        check_value(reading.get("value"))
    elif "value" in reading or blob_of(reading["sealed"]) is None:
        raise Rejected("a sealed value is not base64 of whole blocks, or stands beside an open one")
    elif not (is_count(reading.get("boot"), MAX_BOOT) and is_count(reading.get("seq"), MAX_SEQ)):
        raise Rejected("a sealed reading has no boot and seq")


def check_value(value: Any) -> None:
    """Raises Rejected unless `value` can be that of a reading: a number, a boolean or a short text."""
    if isinstance(value, float):
        return
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARS:
            raise Rejected("a value is too long")
    elif not isinstance(value, int):
        raise Rejected("a value is not a number, a boolean or a text")
    elif not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise Rejected("an integer is too large for JSON")


_KNOWN_IDS: set[str] = set()
_KNOWN_METRICS: set[str] = set()
_KNOWN_UNITS: set[str] = set()
_MOST_KNOWN = 20_000


def valid_id_cached(text: object) -> bool:
    """`valid_id`, quick for the few ids that come again and again."""
    return (type(text) is str and text in _KNOWN_IDS) or _cached(text, _KNOWN_IDS, valid_id)


def valid_metric_cached(text: object) -> bool:
    """`valid_metric`, quick for the few metrics that come again and again."""
    return (type(text) is str and text in _KNOWN_METRICS) or _cached(text, _KNOWN_METRICS, valid_metric)


def _is_short_text(text: object) -> bool:
    return isinstance(text, str) and len(text) <= MAX_TEXT_CHARS and "\0" not in text  # PostgreSQL keeps no NUL


def _cached(text: object, known: set[str], check: Any) -> bool:
    good = bool(check(text))
    if good and len(known) < _MOST_KNOWN:
        known.add(str(text))
    return good
