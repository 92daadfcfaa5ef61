"""The real host of the fleet manager: storage, REST API, notification and the process around the core."""
