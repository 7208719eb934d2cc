"""What comms does, typed, without lightningd's plugin protocol and without SQL."""
