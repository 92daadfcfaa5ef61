"""The contract between gateways and the fleet manager: batches, health, commands, configuration, expressions."""
