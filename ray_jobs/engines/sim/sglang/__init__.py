"""SGLang's real scheduler and event loop under a virtual clock: only the model's execution and the time are simulated."""
