"""What the broker raises."""


class HubError(Exception):
    """A broker cannot do what it was asked: a port in use, a program not installed, a name that cannot be."""
