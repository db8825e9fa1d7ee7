"""An agent that asks a language model what to do: plan-first or step by step, within bounds, through the tools alone."""
