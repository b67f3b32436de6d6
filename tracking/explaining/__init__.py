"""Where the latency of recorded requests was spent."""
