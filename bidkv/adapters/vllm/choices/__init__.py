"""How a strategy's choices reach vLLM: who may start, in which order, and who gives way."""
