"""Owns the data: one process, one thread, one LevelDB, one loop."""
