"""Is a comparison worth what it says?  Checks for leaks, unfair rules and fragile figures, one file a family."""
