"""What is known of items and users beside the log: facts that can be listed, edited, forgotten and frozen."""
