"""Several real engines behind Ray Serve's routers: `engine.replicas=2` on a real engine."""
