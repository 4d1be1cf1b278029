"""What operations of several families share: checks, windows, plans, routes, chunks of work, lengths."""
