"""Pure functions on raw arrays, forward and backward: a room for each family, a file in it for each way to compute."""
