"""The laboratory: starts a lightningd of either flavour, speaks with it, and compares what it says."""
