"""One module a figure. `tracking.figures` is the entrance."""
