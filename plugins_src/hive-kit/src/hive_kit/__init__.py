"""What the three hive plugins share."""
