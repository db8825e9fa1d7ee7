"""Models that emit the ID of an item, token by token, and cannot emit a wrong one."""
