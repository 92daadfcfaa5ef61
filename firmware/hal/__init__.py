"""What a node's hardware does for its core: on boards the drivers, elsewhere the signals that stand for the sensors."""
