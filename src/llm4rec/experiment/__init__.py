"""Experiments: the specification, the run, its directory, summary and report."""
