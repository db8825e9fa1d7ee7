"""A language model orders candidates."""
