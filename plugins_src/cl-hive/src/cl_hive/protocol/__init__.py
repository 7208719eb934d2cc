"""The hive wire protocol: frames, message table, signed records. Pure: no clock, no database, no lightningd."""
