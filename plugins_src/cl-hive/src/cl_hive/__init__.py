"""Fleet coordination of a hive node."""
