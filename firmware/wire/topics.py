"""Topics: `clawland/{id}/{verb or metric}`, the same tree on a gateway's local broker and on the Event Hub."""

ROOT = "clawland/"
MAX_TOPIC_CHARS = 128


def topic(who: str, verb: str) -> str:
    """The topic of `verb` (or a metric) for the node or gateway `who`."""
    return ROOT + who + "/" + verb


def split(name: str) -> "tuple[str, str] | None":
    """`(who, rest)` of a topic of ours, or None for any other; `rest` may have levels, as in `batch/ack`."""
    if len(name) > MAX_TOPIC_CHARS or not name.startswith(ROOT):
        return None
    who, slash, rest = name[len(ROOT) :].partition("/")
    return (who, rest) if slash and who and rest else None
