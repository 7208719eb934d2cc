"""What the plugin knows and decides; no SQL, no pyln."""
