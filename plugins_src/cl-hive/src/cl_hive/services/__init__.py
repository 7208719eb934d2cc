"""The logic of the hive: typed, run on one thread, tested without a node."""
