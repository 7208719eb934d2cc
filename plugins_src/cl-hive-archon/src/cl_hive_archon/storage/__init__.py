"""One store per table family: the only SQL."""
