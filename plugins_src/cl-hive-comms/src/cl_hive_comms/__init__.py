"""Transport, payments, policy and marketplace of a hive node."""
