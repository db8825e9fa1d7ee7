"""A run's systems as tools, the candidates that tools hand on, and agents that use them."""
