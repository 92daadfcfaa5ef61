"""Claims about the fleet manager's real host."""
