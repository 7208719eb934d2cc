"""One store per table family; the only SQL of the plugin."""
