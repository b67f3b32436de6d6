"""What is asked of vLLM's memory: what is free, what a request takes, who holds and shares what, what stays cached."""
