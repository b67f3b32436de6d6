"""What a server is started with: its settings, and whether this vLLM is one that the adapter knows."""
