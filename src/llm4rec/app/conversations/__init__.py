"""Conversations as an experiment: agents, simulated users and dialogues of people, in one table by one command."""
