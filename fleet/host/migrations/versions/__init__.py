"""See `fleet.host.migrations`."""
