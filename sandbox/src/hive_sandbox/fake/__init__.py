"""A lightningd for rehearsals: the plugin protocol, the RPC socket and the files of Core Lightning, without a chain.

Everything it answers is held against recordings of the real one by tests/conformance. What it does not do it refuses.
"""
