"""Traditional recommenders: one file each, with its paper."""
