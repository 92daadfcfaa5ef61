"""L3, the fleet manager: registry, readings, rules, alerts, commands, REST and the Event Hub."""
