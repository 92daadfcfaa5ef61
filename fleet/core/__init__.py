"""The fleet manager's logic: pushed time and bytes, reads nothing. Imports only the wire packages."""
