"""Differential fuzz of the vLLM adapter: random operations, the same on stock vLLM, and what must hold of both."""
