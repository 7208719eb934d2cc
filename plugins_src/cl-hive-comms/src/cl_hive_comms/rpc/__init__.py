"""RPC methods: input models and answers; the work is in services."""
