"""Simulated users, the conversations that they hold with agents, and what those are worth."""
