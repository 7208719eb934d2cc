"""RPC methods: parameters in, JSON out, nothing else."""
