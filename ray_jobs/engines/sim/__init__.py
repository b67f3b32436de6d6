"""vLLM's real scheduler under a virtual clock: only the model's execution and the time are simulated."""
