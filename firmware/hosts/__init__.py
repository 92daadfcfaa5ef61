"""Hosts of the node core. `process` runs it as a Linux process over MQTT; boards have their own."""
