"""Benchmarks: ratios in one run, peers side by side. Never part of the tests."""
