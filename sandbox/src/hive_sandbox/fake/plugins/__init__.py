"""Plugins: their processes, their manifests, and how they are started, called and stopped."""
