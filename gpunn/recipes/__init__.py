"""Complete runs, to use as they are or to copy: data, model, training, and a folder with all that came of it."""
