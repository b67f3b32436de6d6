"""What is counted and written of requests and steps, and what a server shows of it."""
