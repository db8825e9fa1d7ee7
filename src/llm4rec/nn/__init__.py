"""Blocks of neural recommenders and the one loop that trains them."""
