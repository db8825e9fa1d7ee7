"""Why an item was recommended, in a sentence whose claims are checked by code."""
