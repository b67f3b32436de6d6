"""The metrics, by topic; `tracking.metrics.catalogue` finds them."""
