"""The methods: parameters in, JSON out."""
