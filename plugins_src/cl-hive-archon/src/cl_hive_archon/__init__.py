"""Decentralised identity of a hive node."""
