"""The only SQL of the plugin: one store per family of tables."""
