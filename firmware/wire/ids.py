"""Identities and names: one grammar for node ids, gateway ids and metrics."""

MAX_ID_CHARS = 32
_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
_REST = _FIRST + "-"
_METRIC = _FIRST + "_"

# Verbs of the topic table: a metric of that name would be mistaken for the verb.
VERBS = ("heartbeat", "beacon", "cmd", "ack", "received", "batch", "status", "config")


def valid_id(text: object) -> bool:
    """Whether `text` matches `[a-z0-9][a-z0-9-]{0,31}`, the grammar of node and gateway ids."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ID_CHARS or text[0] not in _FIRST:
        return False
    return all([c in _REST for c in text])


def valid_metric(text: object) -> bool:
    """Whether `text` names a metric: `[a-z][a-z0-9_]{0,31}` and not one of the reserved `VERBS`."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_ID_CHARS or text[0] not in _FIRST[:26]:
        return False
    return text not in VERBS and all([c in _METRIC for c in text])
