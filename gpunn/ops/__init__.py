"""Pure functions on raw arrays, forward and backward; one file for each family of operations."""
