"""L2, the gateway: aggregation, a durable outbox, offline rules, node monitoring and routing."""
