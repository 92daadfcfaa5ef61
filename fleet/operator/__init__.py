"""What an operator does from a terminal: the API's routes as commands, as tables for people and JSON for machines."""
