"""What stands around a server for good: a systemd unit and an nginx site, printed by `fleet unit` and `fleet nginx`.

The files beside this one are what is printed, with `@{name}` for what differs from place to place.
"""
