"""One module a figure. `tracking.reporting.figures` is the entrance."""
