"""One suite for two lightningds: what the fake answers is what the real one answers."""
