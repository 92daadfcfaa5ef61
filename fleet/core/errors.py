"""Why an operator's or an agent's request is refused; whatever else is wrong with one is a ValueError."""


class Unknown(LookupError):
    """There is nothing of that name."""


class Conflict(Exception):
    """It does not go together with what is; the text says with what."""


class Busy(Exception):
    """Not now: the same may be asked again in a moment."""
